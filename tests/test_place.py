"""benchmarks.place: its figures by hand, and the program on a run."""

import json

import numpy as np
import programs
import pytest

from benchmarks import mirror_images


def batch(*dots, boxes=()):
    """Black pictures of 8x10 with one white pixel each, at (y, x), and the first one's boxes."""
    images = np.zeros((len(dots), 8, 10, 3), np.float32)
    for image, dot in zip(images, dots, strict=True):
        image[dot] = 1
    padded = np.zeros((len(dots), max(1, len(boxes)), 4), np.int32)
    if boxes:
        padded[0] = boxes
    return {"images": images, "boxes": padded, "box_counts": [len(boxes)] + [0] * (len(dots) - 1)}


def brightness(images):
    return images[..., :1]


def test_masks_that_follow_the_pictures_are_drawn_off_by_nothing():
    batches = [batch((2, 3), (4, 3)), batch((6, 9))]
    found = mirror_images.measured(brightness, batches)
    same = {"x": 5.0, "y": 4.0, "difference": 0.0}
    assert found == {
        "images": 3,
        "drawn_off": {"x": 0, "y": 0},
        **dict.fromkeys(("pictures", "mirrored", "upside_down"), same),
    }


def test_masks_drawn_two_pixels_right_and_one_down_are_found_to_be():
    def shifted(images):
        return np.roll(brightness(images), (1, 2), axis=(1, 2))

    found = mirror_images.measured(shifted, [batch((3, 4))])
    assert found["drawn_off"] == {"x": 2, "y": 1}
    assert found["pictures"] == {"x": 6, "y": 4, "difference": 0}
    # Each mean mask is one pixel of 80, at different places.
    assert found["mirrored"] == {"x": 2, "y": 4, "difference": 2 / 80}
    assert found["upside_down"] == {"x": 6, "y": 2, "difference": 2 / 80}


def test_boxes_that_overlap_count_once():
    found = mirror_images.measured(brightness, [batch((0, 0), boxes=[(0, 0, 4, 2), (2, 0, 6, 2)])])
    assert found["boxes"] == {"x": 2.5, "y": 0.5}


@pytest.mark.long
def test_the_program_looks_at_a_run(finished_run):
    done = programs.call("benchmarks.place", f"--run_dir={finished_run}")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"images", "drawn_off", *mirror_images.VIEWS, "boxes"}
    assert found["pictures"]["difference"] == 0


def test_a_run_that_is_not_there_is_refused(tmp_path):
    done = programs.call("benchmarks.place", f"--run_dir={tmp_path}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("place: --run_dir: ")
