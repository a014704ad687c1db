"""benchmarks.salient_objects: what it scores, the mean of several views, a set that is none."""

import json
import pathlib

import cv2
import numpy as np
import pytest
import trees
from PIL import Image
from programs import assert_refused, call

from benchmarks import salient_objects
from casm_tf.evaluation import SalientObject
from casm_tf.serving.mask_model import MaskModel
from casm_tf.serving.masks import Mask


def test_a_picture_without_a_mask_is_refused(tmp_path):
    trees.write(tmp_path / "images" / "cat.jpg")
    done = call("benchmarks.salient_objects", f"--sets={tmp_path}")
    assert_refused(done, "expected images/ and a mask of each in masks/; found cat.jpg without one")


def looking(find):
    """What stands for a model: find(pixels) is the mask of a picture, float32 of its own size."""

    def model(given):
        images = [Image.open(x) if isinstance(x, pathlib.Path) else x for x in given]
        found = [find(np.asarray(image)) for image in images]
        return [
            Mask(image.size, None, "cat", 1.0, mask, image.copy)
            for image, mask in zip(images, found, strict=True)
        ]

    return model


def columns(*values):
    """A model that finds these values in the columns of every picture."""
    return looking(lambda pixels: np.tile(np.float32(values), (len(pixels), 1)))


def test_views_of_a_model_that_marks_the_left_are_symmetric(tmp_path):
    path = tmp_path / "a.png"
    trees.write(path, trees.picture(0, 2, 4))
    found = salient_objects.mean_of_views([columns(1, 1, 0, 0)] * 2, [path, path])
    assert [mask.tolist() for mask in found] == [[[128] * 4] * 2] * 2
    # Two of four views of the first model alone, one at each rim: a quarter of 255 is 63.75.
    (found,) = salient_objects.mean_of_views([columns(1, 0, 0, 0), columns(0, 0, 0, 0)], [path])
    assert found.dtype == np.uint8 and found.tolist() == [[64, 0, 0, 64]] * 2


def test_views_of_a_model_that_follows_the_picture_are_as_the_picture_is(tmp_path):
    image = trees.picture(0, 3, 5)
    trees.write(tmp_path / "a.png", image)
    model = looking(lambda pixels: np.float32(pixels[..., 0]) / 255)
    (found,) = salient_objects.mean_of_views([model, model], [tmp_path / "a.png"])
    assert found.tolist() == image[..., 0].tolist()


def test_the_larger_view_is_ten_sevenths_as_a_multiple_of_32():
    assert [salient_objects.larger(size) for size in (224, 448, 320, 96)] == [320, 640, 448, 128]


def written(path):
    """The mask as casm_tf.extract writes it, uint8 [H, W]."""
    return np.asarray(MaskModel.load()(path).opacity())


def seen(path):
    """The mean of the four views of a picture by the package's own model, uint8 [H, W]."""
    image, views = np.asarray(Image.open(path)), []
    for size in (224, 320):
        plain, mirrored = MaskModel.load(image_size=size)([image, image[:, ::-1]])
        views += [plain.mask, mirrored.mask[:, ::-1]]
    return np.round(255 * np.mean(views, axis=0)).astype(np.uint8)


@pytest.mark.parametrize("flag", ["--noviews", "--views"])
def test_masks_are_scored_at_the_pictures_size(flag, tmp_path):
    trees.write(tmp_path / "set" / "images" / "cat.jpg")
    (tmp_path / "set" / "masks").mkdir()
    truth = np.zeros((40, 60), np.uint8)
    truth[:, :20] = 255
    cv2.imwrite(str(tmp_path / "set" / "masks" / "cat.png"), truth)
    done = call("benchmarks.salient_objects", f"--sets={tmp_path / 'set'}", flag)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["set"]
    assert list(found) == ["MAE", "maxF", "S", "E", "IoU", "pixel_accuracy"]
    assert "published, ECSSD, SelfMask:  MAE 0.058  IoU 0.818\n" in done.stdout
    path = tmp_path / "set" / "images" / "cat.jpg"
    mask = (seen if flag == "--views" else written)(path)
    evaluator = SalientObject()
    evaluator.accumulate(mask[None] / 255, truth[None] > 0)
    assert found == pytest.approx(evaluator.compute(), abs=1e-6)
