"""Twin pictures and the shares of masks by hand; the experiment as a process, with two steps."""

import json

import numpy as np
import programs
import pytest

from benchmarks import twin_pictures

# Two pictures of 2x4 pixels with one channel, and what they are at half the width.
FIRST = [[0, 2, 4, 8], [1, 1, 5, 7]]
SECOND = [[10, 20, 30, 50], [0, 0, 0, 8]]
NARROW_FIRST = [[1, 6], [1, 6]]
NARROW_SECOND = [[15, 40], [0, 4]]
IMAGES = np.float32([FIRST, SECOND])[..., None]


def halves(view):
    """The left and the right halves of both pictures."""
    pictures = twin_pictures.beside(IMAGES, view).numpy()
    assert pictures.shape == IMAGES.shape
    return pictures[:, :, :2, 0].tolist(), pictures[:, :, 2:, 0].tolist()


def test_squeezed_by_hand():
    assert twin_pictures.squeezed(IMAGES)[..., 0].tolist() == [NARROW_FIRST, NARROW_SECOND]


def test_the_half_that_is_looked_at_shows_the_labels_picture():
    own, other = [NARROW_FIRST, NARROW_SECOND], [NARROW_SECOND, NARROW_FIRST]
    assert halves("left") == (own, other)
    assert halves("right") == (other, own)
    assert halves("both") == (own, own)


def test_shares_by_hand():
    masks = np.float32(
        [
            [[1, 0, 0, 0], [1, 0, 0, 0]],
            [[0.5, 0.25, 0.25, 0], [0.5, 0, 0.5, 0]],
            [[0, 0, 0, 1], [0, 0, 0, 0]],
            [[0, 0, 0, 0], [0, 0, 0, 0]],
        ]
    )
    assert twin_pictures.shares(masks).tolist() == [[1, 0], [0.625, 0.375], [0, 1], [0, 0]]


# On 8x16 an object at x 4 to 12, y 2 to 6 is at x 2 to 6 of each half of 8 columns.
BOX = np.array([[4, 2, 12, 6]])


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (slice(2, 6), slice(2, 6), [True, True]),
        (slice(2, 6), slice(0), [True, False]),
        (slice(0), slice(2, 6), [False, True]),
        (slice(2, 4), slice(2, 5), [False, True]),  # IoU 1/2 and 3/4
        (slice(4, 8), slice(0), [False, False]),
    ],
)
def test_hits_by_hand(left, right, expected):
    mask = np.zeros((8, 16), np.float32)
    mask[2:6, :8][:, left] = 1
    mask[2:6, 8:][:, right] = 1
    assert twin_pictures.hits(mask, BOX) == expected


def test_a_half_where_the_mask_is_faint_has_no_hit():
    mask = np.zeros((8, 16), np.float32)
    mask[2:6, 2:6] = 0.9
    mask[2:6, 10:14] = 0.1  # its place is right, but 16 brighter pixels are the mask's volume
    assert twin_pictures.hits(mask, BOX) == [True, False]


def call(runs_dir, data_dir, *arguments):
    options = ("--dataset=digit_scenes/tiny", "--pretraining_steps=2", "--steps=2", "--seeds=3")
    where = (f"--runs_dir={runs_dir}", f"--data_dir={data_dir}")
    return programs.call("benchmarks.two_halves", *options, *where, *arguments)


@pytest.mark.long
def test_the_experiment_leaves_figures_and_is_not_done_twice(tiny_data_dir, tmp_path):
    runs_dir = tmp_path / "runs"
    done = call(runs_dir, tiny_data_dir, "--views=right")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert list(results) == ["right"]
    assert len(results["right"]["accuracy"]) == 1
    for name in ("F", "CASM"):
        left, right = (results["right"][name][f"{half}_share"] for half in ("left", "right"))
        assert left[0] + right[0] == pytest.approx(1)
        assert 0 < left[0] < 1
    assert (runs_dir / "figure.png").read_bytes().startswith(b"\x89PNG")

    trained = (runs_dir / "right_seed3" / "results.json").stat().st_mtime_ns
    (runs_dir / "figure.png").unlink()
    again = call(runs_dir, tiny_data_dir, "--views=right")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1]) == results
    assert (runs_dir / "right_seed3" / "results.json").stat().st_mtime_ns == trained
    assert (runs_dir / "figure.png").exists()

    refused = call(runs_dir, tiny_data_dir, "--views=right", "--pretraining_steps=3")
    assert refused.returncode == 2
    assert "--pretraining_steps=2; found 3" in refused.stderr
