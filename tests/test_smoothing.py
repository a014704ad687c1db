"""Masks whose logits are smoothed, against OpenCV's Gaussian."""

import cv2
import keras
import numpy as np
import pytest

from casm_tf import networks
from casm_tf.networks.layers import Smoothing


def test_an_even_map_stays_as_it_is():
    maps = np.full((1, 16, 16, 1), -1.5, np.float32)
    assert Smoothing(2.0)(maps).numpy() == pytest.approx(maps, abs=1e-6)


def test_maps_are_smoothed_as_opencv_does():
    maps = np.random.default_rng(0).normal(size=(24, 40)).astype(np.float32)
    expected = cv2.GaussianBlur(maps, (13, 13), 2.0, borderType=cv2.BORDER_REFLECT_101)
    found = Smoothing(2.0)(maps[None, ..., None]).numpy()[0, ..., 0]
    assert found == pytest.approx(expected, abs=1e-5)


def decoder(smoothing):
    keras.utils.set_random_seed(0)
    return networks.decoder([(16, 16, 4), (8, 8, 4)], 16, 4, smoothing=smoothing)


def test_a_decoder_smooths_its_logits_and_is_saved_and_loaded(tmp_path):
    maps = [np.random.default_rng(0).normal(size=(1, n, n, 4)).astype(np.float32) for n in (16, 8)]
    plain, smooth = decoder(0.0), decoder(1.5)
    mask = plain(maps).numpy()
    expected = 1 / (1 + np.exp(-Smoothing(1.5)(np.log(mask / (1 - mask))).numpy()))
    assert smooth(maps).numpy() == pytest.approx(expected, abs=1e-5)
    smooth.save(tmp_path / "decoder.keras")
    loaded = keras.models.load_model(tmp_path / "decoder.keras")
    assert np.array_equal(loaded(maps), smooth(maps))


def test_a_gaussian_that_is_too_wide_is_refused():
    with pytest.raises(ValueError, match="cells does not fit"):
        decoder(6.0)
