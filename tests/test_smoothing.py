"""Masks that are smoothed and sized for export, against OpenCV's Gaussian."""

import cv2
import keras
import numpy as np
import pytest

from casm_tf import networks
from casm_tf.networks.layers import Smoothing


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("gain", "shift"), [(1.0, 0.0), (2.0, 3.0), (0.5, -1.0)])
def test_an_even_mask_stays_even_and_its_logit_is_shifted_then_multiplied(gain, shift):
    masks = np.full((1, 16, 16, 1), 0.25, np.float32)  # a logit of -ln 3
    found = Smoothing(2.0, gain, shift)(masks).numpy()
    assert found == pytest.approx(sigmoid(gain * (shift - np.log(3))), abs=1e-6)


def test_logits_are_smoothed_as_opencv_does():
    mask = np.random.default_rng(0).uniform(size=(24, 40)).astype(np.float32)
    mask[3, 3], mask[4, 4] = 0, 1  # which count as 0.001 and 0.999
    limited = np.clip(mask, 1e-3, 1 - 1e-3)
    smooth = cv2.GaussianBlur(
        np.log(limited / (1 - limited)), (13, 13), 2.0, borderType=cv2.BORDER_REFLECT_101
    )
    found = Smoothing(2.0, 2.0, 0.5)(mask[None, ..., None]).numpy()[0, ..., 0]
    assert found == pytest.approx(sigmoid(2 * (smooth + 0.5)), abs=1e-5)


def test_a_smoothed_model_has_the_same_weights_and_is_saved_and_loaded(tmp_path):
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(1, 1, activation="sigmoid")(images)
    logits = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(images, {"mask": x, "logits": logits})
    smoothed = networks.smoothed(model, 1.0, 2.0, 0.5)
    smoothed.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    picture = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    expected = Smoothing(1.0, 2.0, 0.5)(model(picture)["mask"]).numpy()
    assert loaded(picture)["mask"].numpy() == pytest.approx(expected, abs=1e-6)
    assert smoothed.variables[0] is model.variables[0]
