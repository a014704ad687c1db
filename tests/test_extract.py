"""The program that makes masks of pictures, as a process, and its parts."""

import json
import os
import pathlib
import subprocess
import sys

import cv2
import exports
import numpy as np
import pytest
import tensorflow as tf
import trees
from PIL import Image

from casm_tf import client, extract, localization
from casm_tf.data import pictures

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An exported version's path."""
    return exports.export_tiny(tmp_path_factory.mktemp("serving") / "casm")


@pytest.fixture(scope="module")
def model(exported):
    return client.open_model(str(exported))


def call(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "casm_tf.extract", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=environment
    )


def turned(path, orientation, image):
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(image).save(path, exif=tags)


def test_files_folders_and_globs_of_every_kind(exported, tmp_path):
    root = tmp_path / "사진"
    trees.write(root / "강아지" / "첫 번째.jpg", trees.picture(0, 40, 60))
    Image.fromarray(trees.picture(1, 40, 60)).convert("CMYK").save(root / "cmyk.jpg")
    deep = cv2.resize(np.random.default_rng(0).integers(0, 65536, (4, 6), np.uint16), (60, 40))
    Image.fromarray(deep).save(root / "deep.png")
    turned(root / "turned.jpg", 6, trees.picture(2, 40, 60))
    (root / "cut.jpg").write_bytes((root / "cmyk.jpg").read_bytes()[:-400])
    (root / "empty.png").write_bytes(b"")
    (root / ".hidden.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("no picture")
    trees.write(tmp_path / "globs" / "a.png", trees.picture(3, 70, 30))
    trees.write(tmp_path / "globs" / "b.jpg")
    trees.write(tmp_path / "one.jpg", trees.picture(4, 16, 16))

    arguments = ["one.jpg", "사진/", "globs/*.png", "--output=masks", "--batch_size=4"]
    done = call(f"--model={exported}", *arguments, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    sizes = {line["file"]: (line["width"], line["height"]) for line in lines}
    assert sizes == {
        "one.jpg": (16, 16),
        "사진/cmyk.jpg": (60, 40),
        "사진/deep.png": (60, 40),
        "사진/turned.jpg": (40, 60),
        "사진/강아지/첫 번째.jpg": (60, 40),
        "globs/a.png": (30, 70),
    }
    for line in lines:
        size = line["width"], line["height"]
        names = {"mask": "L", "overlay": "RGB", "cutout": "RGBA"}
        for name, mode in names.items():
            image = Image.open(tmp_path / line[name])
            assert (image.size, image.mode) == (size, mode)
        assert line["label"] in exports.LABELS and 1 / 3 <= line["probability"] <= 1
    assert (tmp_path / "masks" / "강아지" / "첫 번째.mask.png").exists()
    assert len([path for path in (tmp_path / "masks").rglob("*") if path.is_file()]) == 18
    for name in ("사진/cut.jpg: ", "사진/empty.png: "):
        assert name in done.stderr
    assert "2 of 8 pictures could not be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_picture_alone_is_success_and_nothing_else_on_standard_output(exported, tmp_path):
    trees.write(tmp_path / "photo[1].jpg")
    done = call(tmp_path / "photo[1].jpg", f"--model={exported}", f"--output={tmp_path / 'masks'}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mask"] == str(tmp_path / "masks" / "photo[1].mask.png")


@pytest.mark.parametrize(
    "argument, expected",
    [
        ("--model=missing", "--model: missing has no saved_model.pb"),
        ("missing.jpg", "there is no missing.jpg"),
    ],
)
def test_mistakes_are_one_line(argument, expected, exported, tmp_path):
    trees.write(tmp_path / "photo.jpg")
    done = call("photo.jpg", f"--model={exported}", argument, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"extract: {expected}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "masks").exists()


def test_arguments_that_name_no_picture_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    trees.write(tmp_path / ".hidden.jpg")
    with pytest.raises(ValueError, match="folders or globs; found none"):
        extract.find([])
    for argument in ("", "*", "*.png"):
        with pytest.raises(ValueError, match="there is no picture in"):
            extract.find([f"{tmp_path}/{argument}"])


def test_outputs_are_of_the_mask_that_the_model_gives(model, tmp_path):
    path = tmp_path / "photo.png"
    image = trees.picture(0, 32, 32)
    trees.write(path, image)
    (row,) = extract.look(model, [(path, None)])
    expected = model.predict(image[None])
    mask = expected["mask"][0, :, :, 0]
    assert row["mask"][..., 0] == pytest.approx(mask, abs=1e-6)

    line = extract.write(path, row, tmp_path / "photo")
    grey = np.round(255 * mask).astype(np.uint8)
    assert np.asarray(Image.open(line["mask"])).tolist() == grey.tolist()
    cutout = np.asarray(Image.open(line["cutout"]))
    assert cutout[..., :3].tolist() == image.tolist()
    assert cutout[..., 3].tolist() == grey.tolist()
    assert line["box"] == list(localization.predict_box(mask))
    probabilities = expected["probabilities"][0]
    assert line["label"] == exports.LABELS[probabilities.argmax()]
    assert line["probability"] == pytest.approx(probabilities.max(), abs=1e-6)


def test_overlay_is_grey_with_orange_where_the_mask_is(tmp_path):
    path = tmp_path / "photo.png"
    trees.write(path, np.full((40, 40, 3), [200, 40, 40], np.uint8))
    mask = np.zeros((4, 4, 1), np.float32)
    mask[:, 2:] = 1
    row = {
        "mask": mask,
        "box": np.float32([0.5, 0, 1, 1]),
        "label": b"cat",
        "probabilities": np.float32([1]),
    }
    line = extract.write(path, row, tmp_path / "photo")
    overlay = np.asarray(Image.open(line["overlay"]), int)
    grey = round(0.299 * 200 + 0.587 * 40 + 0.114 * 40)
    assert abs(overlay[20, 5] - grey).max() <= 3
    assert abs(overlay[20, 30] - (0.3 * grey + 0.7 * np.array([230, 159, 0]))).max() <= 4
    assert line["box"] == [20, 0, 40, 40]


def test_a_rotated_photo_gives_what_the_upright_one_gives(model, tmp_path):
    image = trees.picture(5, 40, 60)
    upright, rotated = tmp_path / "upright.png", tmp_path / "rotated.png"
    trees.write(upright, image)
    turned(rotated, 8, np.rot90(image, -1))  # 8: to be turned by 90 degrees, anticlockwise
    lines = []
    for path in (upright, rotated):
        (row,) = extract.look(model, [(path, None)])
        lines.append(extract.write(path, row, tmp_path / path.stem))
    for name in ("box", "width", "height", "label", "probability"):
        assert lines[0][name] == lines[1][name]
    for name in ("mask", "cutout"):
        both = [np.asarray(Image.open(line[name])).tolist() for line in lines]
        assert both[0] == both[1]


def test_pixels_that_a_box_touches_count():
    # Cells of 2.5 x 1.25 pixels: columns 2.5 to 5, rows 1.25 to 3.75.
    assert extract._in_pixels(np.float32([0.25, 0.25, 0.5, 0.75]), 4, (10, 5)) == [2, 1, 5, 4]
    assert extract._in_pixels(np.zeros(4, np.float32), 4, (10, 5)) is None
    thirds = np.float32([10, 20, 30, 40]) / np.float32(224)
    assert extract._in_pixels(thirds, 224, (448, 224)) == [20, 20, 60, 40]


def test_a_reduced_jpeg_is_seen_as_the_whole_one(tmp_path):
    path = tmp_path / "large.jpg"
    Image.fromarray(trees.picture(0, 640, 960)).save(path, quality=90)
    assert pictures.open_rgb(path, at_least=64).size == (120, 80)
    whole = pictures.open_rgb(path).resize((32, 32), Image.Resampling.BILINEAR)
    assert extract._squashed(path, 32) == pytest.approx(np.asarray(whole, float), abs=2)


def test_names_of_outputs_and_what_is_found(tmp_path):
    for name in ("in/a.jpg", "in/a.png", "in/deeper/a.jpg", "in/b.jpeg", "in/b.mask.png"):
        trees.write(tmp_path / name)
    (tmp_path / "in" / "c.TXT").write_text("")
    found = extract.find([str(tmp_path / "in"), str(tmp_path / "in" / "b.jpeg")])
    assert {str(path.relative_to(tmp_path)): str(target) for path, target in found} == {
        "in/a.jpg": "a.jpg",
        "in/a.png": "a.png",
        "in/b.jpeg": "b",
        "in/deeper/a.jpg": "deeper/a",
    }
    found = extract.find([str(tmp_path / "*" / "**" / "a.jpg")])
    assert [str(target) for _, target in found] == ["in/a", "in/deeper/a"]
    both = [str(tmp_path / "in" / "a.jpg"), str(tmp_path / "in" / "deeper" / "a.jpg")]
    with pytest.raises(ValueError, match=r"would both become a\.jpg\.mask\.png|a\.mask\.png"):
        extract.find(both)


def test_models_that_are_none_are_refused(exported, tmp_path):
    with pytest.raises(ValueError, match="expected a version that"):
        client.open_model(str(exported.parent))
    (tmp_path / "model.keras").write_bytes(b"")
    with pytest.raises(ValueError, match=r"components\.pusher --run_dir"):
        client.open_model(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(ValueError, match="is not whole"):
        client.open_model(str(tmp_path))
    other = tf.Module()
    other.call = tf.function(lambda images: images, input_signature=[tf.TensorSpec((None, 3))])
    tf.saved_model.save(other, tmp_path / "other", signatures=other.call)
    with pytest.raises(ValueError, match="no mask model"):
        client.open_model(str(tmp_path / "other"))


def test_memory_is_bounded_for_50_megapixels(exported, tmp_path):
    large, small = tmp_path / "large", tmp_path / "small"
    trees.write(small / "a.jpg")
    large.mkdir()
    Image.fromarray(trees.picture(0, 6250, 8000)).save(large / "a.jpg")
    for name in "bc":
        (large / f"{name}.jpg").hardlink_to(large / "a.jpg")
    # A process's peak is never below that of the one that it was started from: hence one between.
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'casm_tf.extract', *sys.argv[1:]], check=True,\n"
        "    stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)\n"
    )
    peaks = []
    for folder in (small, large):
        command = [sys.executable, "-c", code, folder, f"--model={exported}"]
        command.append(f"--output={tmp_path / 'masks'}")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout))
    print(f"peaks in MB: {peaks}")
    # In Pillow the picture in RGB takes 200 MB and the overlay as much, the masks 50 each. All
    # three pictures at once would take 400 more.
    assert peaks[1] - peaks[0] < 650
