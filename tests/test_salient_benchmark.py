"""benchmarks.salient_objects, as a process: what it scores, and a set that is none."""

import json

import cv2
import numpy as np
import pytest
import trees
from programs import assert_refused, call

from casm_tf.evaluation import SalientObject
from casm_tf.serving.mask_model import MaskModel


def test_a_picture_without_a_mask_is_refused(tmp_path):
    trees.write(tmp_path / "images" / "cat.jpg")
    done = call("benchmarks.salient_objects", f"--sets={tmp_path}")
    assert_refused(done, "expected images/ and a mask of each in masks/; found cat.jpg without one")


def test_masks_are_scored_at_the_pictures_size(tmp_path):
    trees.write(tmp_path / "set" / "images" / "cat.jpg")
    (tmp_path / "set" / "masks").mkdir()
    truth = np.zeros((40, 60), np.uint8)
    truth[:, :20] = 255
    cv2.imwrite(str(tmp_path / "set" / "masks" / "cat.png"), truth)
    done = call("benchmarks.salient_objects", f"--sets={tmp_path / 'set'}")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["set"]
    assert list(found) == ["MAE", "maxF", "S", "E", "IoU", "pixel_accuracy"]
    # As `extract` writes it, in 8 bits.
    (mask,) = MaskModel.load()([tmp_path / "set" / "images" / "cat.jpg"])
    evaluator = SalientObject()
    evaluator.accumulate(np.asarray(mask.opacity())[None] / 255, truth[None] > 0)
    assert found == pytest.approx(evaluator.compute(), abs=1e-6)
