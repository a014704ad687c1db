"""Broken files of every kind, read in a process of its own that none of them may end."""

import collections
import json
import pathlib
import re
import shutil
import sys

import mutations
import numpy as np
import programs
import pytest
import trees
from PIL import Image

from casm_tf.data import damage, datasets, input_pipeline, pictures

_MEGABYTES = 150  # more than any of the small files takes: one with a false size would


@pytest.mark.parametrize(
    "count, seed", [(30, 0), pytest.param(500, 1, marks=pytest.mark.long)], ids=["30", "500"]
)
def test_mutated_files_are_read_or_refused(count, seed, tiny_data_dir, tmp_path):
    folder = tmp_path / "files"
    shutil.copytree(tiny_data_dir, folder)
    options = (f"--count={count}", f"--seed={seed}", f"--data={tiny_data_dir}")
    done = programs.run([sys.executable, "tests/read_mutated.py", folder, *options], timeout=400)
    last = (folder / "last.txt").read_text()
    assert done.returncode == 0, f"exit code {done.returncode} at {last}: {done.stderr[-2000:]}"
    results = [json.loads(line) for line in done.stdout.splitlines()]
    good = [result for result in results if result["file"].startswith("-")]
    assert len(good) > 20 and {result["outcome"] for result in good} == {"read"}
    wrong = [result for result in results if result["outcome"] not in ("read", "refused")]
    large = [result for result in results if result["megabytes"] > _MEGABYTES]
    assert (wrong, large) == ([], [])
    assert len(results) - len(good) == count
    # Neither is everything refused, nor nothing.
    found = collections.Counter(result["outcome"] for result in results[len(good) :])
    assert min(found["read"], found["refused"]) > count / 10


@pytest.fixture
def data(tiny_data_dir, tmp_path):
    """A copy of a data directory, and its training split's only file."""
    shutil.copytree(tiny_data_dir, tmp_path / "data")
    (path,) = (tmp_path / "data").rglob("*train.tfrecord*")
    return tmp_path / "data", path


def _damage(path):
    """Change a byte in the middle, which no length tells."""
    found = bytearray(path.read_bytes())
    found[len(found) // 2] ^= 1
    path.write_bytes(found)


def _empty_pictures(path):
    """Records whose checksums are right and which are no examples."""
    found = mutations.records(path.read_bytes())
    path.write_bytes(mutations.as_file([b"\xff" * len(record) for record in found]))


@pytest.mark.parametrize("harm", [_damage, _empty_pictures], ids=lambda harm: harm.__name__)
def test_a_file_damaged_in_its_right_length_is_named(harm, data):
    directory, path = data
    dataset = datasets.open_dataset("digit_scenes/tiny", str(directory))
    assert damage.damaged_file(dataset) is None
    harm(path)
    dataset = datasets.open_dataset("digit_scenes/tiny", str(directory))
    assert damage.damaged_file(dataset) == path
    with (
        pytest.raises(damage.DamagedFileError, match=f"^{re.escape(str(path))} is damaged: "),
        damage.naming_files(dataset),
    ):
        for _ in input_pipeline.training_batches(dataset, 16, 0).take(9):
            pass


def test_an_error_that_is_of_no_file_stays_as_it_is(data):
    dataset = datasets.open_dataset("digit_scenes/tiny", str(data[0]))
    error = damage.tf.errors.InvalidArgumentError(None, None, "of something else")
    with pytest.raises(type(error), match="of something else"), damage.naming_files(dataset):
        raise error


def test_a_record_that_says_it_is_a_terabyte_long_does_not_end_the_process(data):
    directory, path = data
    found = path.read_bytes()
    path.write_bytes(mutations.record_head(2**40) + found[12:])
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is damaged: "):
        datasets.open_dataset("digit_scenes/tiny", str(directory))


@pytest.mark.parametrize("name", ["metadata.json", "dataset_info.json"])
@pytest.mark.parametrize("text", [b"\xff\xfe\xfa", b"{", b"[1]", b'{"mean": [0, 0, 0], "std": 0}'])
def test_a_description_that_is_none_is_refused_by_name(name, text, data, tmp_path):
    trees.write_tree(tmp_path / "tree", count=2)
    folder = ("image_folder", str(tmp_path / "folder"), str(tmp_path / "tree"))
    datasets.open_dataset(*folder)
    for arguments in (("digit_scenes/tiny", str(data[0])), folder):
        (path,) = pathlib.Path(arguments[1]).rglob(f"1.0.0/{name}")
        path.write_bytes(text)
        match = "metadata.json is damaged: " if name == "metadata.json" else "the description of .*"
        with pytest.raises(ValueError, match=match + arguments[0] * (name != "metadata.json")):
            datasets.open_dataset(*arguments)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_mask_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    trees.write(tmp_path / "a.png")  # of 2,400
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_399)
    with pytest.raises(ValueError, match="pixels"):
        pictures.read_mask(tmp_path / "a.png")


@pytest.mark.long
@pytest.mark.parametrize("share, code", [(0.2, 2), (0.01, 0)])
def test_a_tree_with_mutated_pictures_is_prepared_or_refused_by_name(share, code, tmp_path):
    trees.write_tree(tmp_path / "tree", count=50)  # 200 pictures
    draws = np.random.default_rng(0)
    paths = sorted((tmp_path / "tree").rglob("*.JPEG"))
    bad = {}
    for path in draws.choice(paths, int(share * len(paths)), replace=False):
        path.write_bytes(mutations.mutated(path.read_bytes(), draws, path.name))
        try:
            pictures.read(path)
        except ValueError as error:
            bad[path.relative_to(tmp_path / "tree").as_posix()] = str(error)
    outputs = [f"--{name}={tmp_path / name}" for name in ("examples", "statistics", "schema")]
    tree = f"--image_dir={tmp_path / 'tree'}"
    done = programs.call("components.example_gen", "--dataset=image_folder", *outputs, tree)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    skipped = [path.read_text() for path in (tmp_path / "examples").rglob("skipped.txt")]
    assert "".join(skipped) == "".join(f"{name}: {bad[name]}\n" for name in sorted(bad))
    assert (len(bad) > 2) == (code == 2)
