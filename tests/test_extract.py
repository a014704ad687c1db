"""The program that makes masks of pictures, as a process, and its parts."""

import json
import os
import pathlib
import shutil
import sys

import cv2
import exports
import numpy as np
import programs
import pytest
import tensorflow as tf
import trees
from PIL import Image, PngImagePlugin

from casm_tf import extract
from casm_tf.cli import picture_files
from casm_tf.evaluation import localization
from casm_tf.serving import mask_model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An exported version's path."""
    return exports.export_tiny(tmp_path_factory.mktemp("serving") / "casm")


@pytest.fixture(scope="module")
def model(exported):
    return mask_model.MaskModel.load(exported)


def call(*arguments, **options):
    return programs.call("casm_tf.extract", *arguments, **options)


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
    assert "2 of 8 pictures could not be read or written" in done.stderr
    assert "left out  1 files are of no kind that is read (.txt)\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_picture_alone_is_success_and_nothing_else_on_standard_output(exported, tmp_path):
    trees.write(tmp_path / "photo[1].jpg")
    done = call(tmp_path / "photo[1].jpg", f"--model={exported}", f"--output={tmp_path / 'masks'}")
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["mask"] == str(tmp_path / "masks" / "photo[1].mask.png")
    assert line["boxes"][0] == line["box"]


@pytest.mark.parametrize(
    "argument, expected",
    [
        ("--model=missing", "--model: missing is no mask model; expected"),
        ("--image_size=100", "flag --image_size=100: expected a multiple of 32"),
        ("--image_size=448.5", "flag --image_size=448.5: "),
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
    trees.write(tmp_path / ".hidden" / "a.png")
    with pytest.raises(ValueError, match="folders or globs; found none"):
        picture_files.find([])
    with pytest.raises(ValueError, match=r"expected no \.\. behind a wildcard"):
        picture_files.find([f"{tmp_path}/*/../.hidden.jpg"])
    for argument in ("", "*", "*.png", "**/*.png"):
        with pytest.raises(ValueError, match="there is no picture in"):
            picture_files.find([f"{tmp_path}/{argument}"])


def test_outputs_are_of_the_mask_that_the_model_gives(exported, model, tmp_path):
    path = tmp_path / "photo.png"
    image = trees.picture(0, 32, 32)
    trees.write(path, image)
    mask = model(path)
    signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
    expected = signature(images=tf.constant(image[None], tf.float32))
    grey = np.round(255 * expected["mask"].numpy()[0, :, :, 0]).astype(np.uint8)

    line = extract.write(mask, tmp_path / "photo")
    assert np.asarray(Image.open(line["mask"])).tolist() == grey.tolist()
    cutout = np.asarray(Image.open(line["cutout"]))
    assert cutout[..., :3].tolist() == image.tolist()
    assert cutout[..., 3].tolist() == grey.tolist()
    assert mask.box == localization.predict_box(mask.mask)


def test_a_call_that_was_broken_off_goes_on(exported, tmp_path):
    for number in range(5):
        trees.write(tmp_path / "in" / f"{number}.png", trees.picture(number))
    arguments = ("in", f"--model={exported}", "--batch_size=2")
    first = call(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    files = [json.loads(line)["file"] for line in first.stdout.splitlines()]
    assert files == [f"in/{number}.png" for number in range(5)]
    (tmp_path / "masks" / "1.cutout.png").unlink()
    trees.write(tmp_path / "in" / "3.png", trees.picture(7))  # newer than what was made of it
    again = call(*arguments, cwd=tmp_path)
    assert [json.loads(line)["file"] for line in again.stdout.splitlines()] == [
        *("in/1.png", "in/3.png")
    ]
    assert "passed over 3 that are made already" in again.stderr
    assert "cut-out of 2 in masks" in again.stderr
    assert again.stderr.splitlines()[-1].startswith("next  docs/photographs.md ")
    assert call(*arguments, cwd=tmp_path).stdout == ""
    assert (
        call(*arguments, "--overwrite", cwd=tmp_path).stdout
        == call(*arguments, "--overwrite", cwd=tmp_path).stdout
    )


def test_masks_of_another_model_or_of_other_flags_are_made_anew(exported, tmp_path):
    trees.write(tmp_path / "in" / "a.png", trees.picture(0))
    arguments = ("in", f"--model={exported}")
    assert call(*arguments, cwd=tmp_path).stdout != ""
    assert call(*arguments, "--image_size=64", cwd=tmp_path).stdout != ""
    assert call(*arguments, "--image_size=64", cwd=tmp_path).stdout == ""
    shutil.copytree(exported, tmp_path / "other")
    assert call("in", "--model=other", "--image_size=64", cwd=tmp_path).stdout != ""
    missing = call("in", "--model=none", "--image_size=64", cwd=tmp_path)
    assert missing.returncode == 2
    assert missing.stderr.startswith("extract: --model: ")


@pytest.mark.parametrize("harm", ["cut", "too large"])
def test_a_mask_that_cannot_be_read_is_not_taken_for_made(harm, tmp_path, monkeypatch):
    trees.write(tmp_path / "a.png", trees.picture(0))
    os.utime(tmp_path / "a.png", (1, 1))  # older than what is made of it
    target = tmp_path / "masks" / "a"
    target.parent.mkdir()
    paths = picture_files.outputs(target)
    for path in paths.values():
        path.write_bytes(b"")
    text = PngImagePlugin.PngInfo()
    text.add_text(picture_files.MADE_BY, "this")
    Image.new("L", (40, 40)).save(paths["mask"], pnginfo=text)
    assert picture_files.is_made(tmp_path / "a.png", target, "this")
    assert not picture_files.is_made(tmp_path / "a.png", target, "that")
    if harm == "cut":
        paths["mask"].write_bytes(paths["mask"].read_bytes()[:20])
    else:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9)
    assert not picture_files.is_made(tmp_path / "a.png", target, "this")


def test_pictures_of_every_kind_through_the_program(exported, tmp_path):
    kinds = {"wide": (20, 30_000), "dot": (1, 1)}
    for name, (height, width) in kinds.items():
        trees.write(tmp_path / "in" / f"{name}.png", trees.picture(0, height, width))
    (tmp_path / "in" / "none.png").write_bytes(b"no picture")
    done = call("in", f"--model={exported}", "--image_size=64", cwd=tmp_path)
    assert done.returncode == 1
    assert "in/none.png: no picture" in done.stderr
    sizes = {}
    for line in map(json.loads, done.stdout.splitlines()):
        sizes[pathlib.Path(line["file"]).stem] = Image.open(tmp_path / line["mask"]).size[::-1]
    assert sizes == kinds


def test_a_model_of_digits_is_told_of(tmp_path):
    exported = exports.export_tiny(tmp_path / "casm", trained_on="digit_scenes/tiny")
    trees.write(tmp_path / "photo.jpg")
    done = call("photo.jpg", f"--model={exported}", cwd=tmp_path)
    assert done.returncode == 0
    (note,) = [line for line in done.stderr.splitlines() if line.startswith("note")]
    assert "trained on digit_scenes/tiny" in note and "without --model" in note


def test_names_of_outputs_and_what_is_found(tmp_path):
    for name in ("in/a.jpg", "in/a.png", "in/deeper/a.jpg", "in/b.jpeg", "in/b.mask.png"):
        trees.write(tmp_path / name)
    (tmp_path / "in" / "c.TXT").write_text("")
    found, others = picture_files.find([str(tmp_path / "in"), str(tmp_path / "in" / "b.jpeg")])
    assert others == [tmp_path / "in" / "c.TXT"]
    assert {str(path.relative_to(tmp_path)): str(target) for path, target in found} == {
        "in/a.jpg": "a.jpg",
        "in/a.png": "a.png",
        "in/b.jpeg": "b",
        "in/deeper/a.jpg": "deeper/a",
    }
    found, _ = picture_files.find([str(tmp_path / "*" / "**" / "a.jpg")])
    assert [str(target) for _, target in found] == ["in/a", "in/deeper/a"]
    both = [str(tmp_path / "in" / "a.jpg"), str(tmp_path / "in" / "deeper" / "a.jpg")]
    with pytest.raises(ValueError, match=r"would both become a\.jpg\.mask\.png|a\.mask\.png"):
        picture_files.find(both)


@pytest.mark.long
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
        done = programs.run(command)
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout))
    print(f"peaks in MB: {peaks}")
    # In Pillow the picture in RGB takes 200 MB and the overlay as much, the masks 50 each. All
    # three pictures at once would take 400 more.
    assert peaks[1] - peaks[0] < 650
