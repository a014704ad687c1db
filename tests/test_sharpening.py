"""The steps of the second stage, on pictures of a few cells."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from casm_tf.second_stage import sharpening

CELLS, PIXELS = sharpening.CELLS, sharpening.PIXELS
random = np.random.default_rng(0)


def square(size, start, end):
    """float32 [size, size]: 1 from start to end, down and across, else 0."""
    found = np.zeros((size, size), np.float32)
    found[start:end, start:end] = 1
    return found


def test_activation_is_a_sigmoid_about_the_mean_and_half_a_deviation():
    # Norms 0, 3, 4 and 5 of two channels; stretched 0, 0.6, 0.8, 1: mean 0.6, deviation 0.37417.
    maps = tf.constant([[[[0.0, 0.0], [3.0, 0.0]], [[0.0, 4.0], [3.0, 4.0]]]])
    found = sharpening.activation(maps).numpy()[0]
    expected = 1 / (1 + np.exp(-8 * (np.array([0, 0.6, 0.8, 1]) - 0.6 - 0.37417 / 2)))
    corners = found[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, expected, atol=1e-4)


def test_what_is_seen_is_turned_back():
    """Of a model that marks how red a pixel is, all views are of the same picture."""
    red = square(64, 16, 32)[:, ::-1]
    images = np.stack([red, red, red], axis=-1)[None]
    found = sharpening.seen(lambda images: images[..., :1], images, (64, 128)).numpy()[0]
    whole = tf.image.resize(red[..., None], (CELLS, CELLS)).numpy()[..., 0]
    assert np.abs(found - whole).mean() < 0.02
    # And of one that marks the left half, both halves are marked by half.
    left = sharpening.seen(
        lambda x: (
            tf.ones_like(x[..., :1])
            * square(64, 0, 64)[None, ..., None]
            * np.r_[np.ones(32), np.zeros(32)].astype("f")[:, None]
        ),
        images,
        (64,),
    )
    np.testing.assert_allclose(left.numpy()[0, :, [0, -1]], 0.5)


def test_a_cut_finds_the_square_that_a_blob_touches():
    picture = np.full((PIXELS, PIXELS, 3), (20, 120, 40), np.uint8)
    picture[100:260, 100:260] = (200, 30, 30)
    picture = (picture + random.integers(0, 20, picture.shape)).astype(np.uint8)
    truth = square(CELLS, 50, 130)
    blob = 0.3 * square(CELLS, 20, 150) + 0.5 * square(CELLS, 60, 120)
    cutout = sharpening.cut(picture, blob)
    assert sharpening.agreement(cutout[None], truth[None])[0] > 0.95
    assert sharpening.agreement(blob[None], truth[None])[0] < 0.6


@pytest.mark.parametrize("level", [0.0, 0.05, 0.3, 0.9, 1.0])
def test_a_map_of_one_value_is_cut_to_nothing(level):
    picture = random.integers(0, 256, (PIXELS, PIXELS, 3)).astype(np.uint8)
    assert not sharpening.cut(picture, np.full((CELLS, CELLS), level, np.float32)).any()


def test_a_picture_of_one_colour_is_cut_without_an_error():
    picture = np.full((PIXELS, PIXELS, 3), 128, np.uint8)
    cutout = sharpening.cut(picture, 0.8 * square(CELLS, 50, 130))
    assert cutout.min() >= 0 and cutout.max() <= 1


def test_agreement_and_chances_by_hand():
    """Two agree, the second by half; one is too small, one too large, one has nothing."""
    starts = np.stack(
        [square(100, 0, 60), np.zeros((100, 100), np.float32)] * 2 + [square(100, 0, 9)]
    )
    starts[1, :50] = 1
    starts[2] = 1
    cutouts = starts.copy()
    cutouts[1, 25:50] = 0  # of the map's 50 rows 25 are inside, 25 among the 75 outside
    starts[3, :10] = 0.4
    second = 0.5 * (1 - 25 / 75)
    np.testing.assert_allclose(sharpening.agreement(cutouts, starts), [1, second, 1, 0, 1])
    cutouts[1, 25:40] = 1
    starts[1, 40:50] = 0.1
    second = 1 - 0.1 * 10 / 60
    found = sharpening.chances(cutouts, starts)
    excess = np.array([1, second, 0, 0, 0]) - 0.35
    np.testing.assert_allclose(found, np.maximum(0, excess) / (1.3 + second - 1), rtol=1e-6)


@given(st.floats(0.4, 1), st.integers(6, 40))
def test_a_map_that_is_brighter_in_its_cut_agrees_no_less(most, width):
    """A pyramid about a square."""
    y, x = np.mgrid[:100, :100]
    distance = np.maximum(np.abs(y - 50), np.abs(x - 50))
    starts = most * np.clip(1 - distance / 50, 0, 1)[None].astype(np.float32)
    cutouts = (distance < width)[None].astype(np.float32)
    found = sharpening.agreement(cutouts, starts)
    assert 0 <= found[0] <= 1
    brighter = sharpening.agreement(cutouts, np.minimum(1, starts + 0.2 * cutouts))
    assert brighter >= found - 1e-6


def test_without_any_agreement_no_picture_is_drawn():
    nothing = np.zeros((3, 8, 8), np.float32)
    assert not sharpening.chances(nothing, nothing).any()


def test_labels_are_the_cut_first_and_the_students_own_later():
    cutouts, starts = np.float32([1, 0, 1]), np.float32([0.5, 0.5, 1])
    np.testing.assert_allclose(sharpening.blended(cutouts, starts, True), [0.9, 0.1, 1])
    later = [0.49 / (0.49 + 0.09), 0.09 / (0.49 + 0.09), 1]  # of 0.7, 0.3 and 1
    np.testing.assert_allclose(sharpening.blended(cutouts, starts, False), later, rtol=1e-6)


@given(st.integers(0, 2**31 - 1), st.integers(0, 1000), st.sampled_from([32, 64]))
def test_views_and_their_labels_are_of_the_same_place(seed, step, size):
    """Pictures that are white where their label is: so are the views, but at the rim."""
    shapes = np.stack([square(64, 10, 40), square(64, 30, 50)])
    pictures = np.repeat(255 * shapes[..., None], 3, axis=-1).astype(np.uint8)
    predictions = np.float32([[1, 0], [0, 1]])
    arrays = (tf.constant(pictures), tf.constant(shapes), tf.constant(predictions))
    images, labels, predicted = sharpening.views(
        *arrays, tf.constant([0.0, 1.0]), 4, size, 0.4, tf.constant([seed, step])
    )
    assert images.shape == (4, size, size, 3) and labels.shape == (4, size, size, 1)
    np.testing.assert_array_equal(predicted, np.float32([[0, 1]] * 4))
    for image, label in zip(images.numpy()[..., 0], labels.numpy()[..., 0], strict=True):
        inside, outside = image[label == 1], image[label == 0]
        assert inside.size == 0 or outside.size == 0 or inside.min() > outside.max()


def test_windows_are_as_large_as_asked_for_and_half_of_them_beyond_the_picture():
    corners = sharpening._corners(0.4, tf.random.stateless_uniform((5, 4000), (1, 2))).numpy()
    area = (corners[:, 2] - corners[:, 0]) * np.abs(corners[:, 3] - corners[:, 1])
    assert area.min() >= 0.4 and area.max() <= 2.5
    assert abs((area > 1).mean() - 0.5) < 0.03
    assert abs((corners[:, 1] > corners[:, 3]).mean() - 0.5) < 0.03


def test_beyond_a_picture_is_its_corners_colour_and_no_object():
    """A red picture with a blue middle, of which all is salient: beyond it is red and is not."""
    picture = np.full((1, 32, 32, 3), (200, 0, 0), np.uint8)
    picture[:, 12:20, 12:20] = (0, 0, 200)
    labels = np.ones((1, 32, 32), np.float32)
    arrays = (tf.constant(picture), tf.constant(labels), tf.eye(1), tf.constant([1.0]))
    images, labels, _ = sharpening.views(*arrays, 40, 64, 0.2, tf.constant([3, 1]))
    beyond = labels.numpy()[..., 0] == 0
    assert beyond.any(axis=(1, 2)).mean() > 0.3
    for image, is_beyond in zip(images.numpy(), beyond, strict=True):
        colours = image[is_beyond]
        if len(colours):
            assert np.ptp(colours, axis=0).max() < 1e-3
            assert (colours[0, 0] > colours[0, 2] + 50).all()


def test_one_of_sixteen_views_is_beside_the_object_and_empty():
    """Objects are white on black, faint labels lie about them."""
    shapes = np.stack([square(64, 2, 30), square(64, 30, 62)])
    pictures = np.repeat(255 * shapes[..., None], 3, axis=-1).astype(np.uint8)
    labels = np.maximum(shapes, 0.2)
    arrays = (tf.constant(pictures), tf.constant(labels), tf.eye(2), tf.constant([0.5, 0.5]))
    for step in range(5):
        _, found, predicted = sharpening.views(*arrays, 32, 32, 0.4, tf.constant([2, step]))
        assert not found[:2].numpy().any()
        np.testing.assert_array_equal(predicted.numpy().sum(axis=1), [0] * 2 + [1] * 30)
        assert found[2:].numpy().max(axis=(1, 2, 3)).min() > 0


def test_a_picture_without_a_chance_is_never_drawn():
    pictures = np.zeros((3, 8, 8, 3), np.uint8)
    predictions = tf.eye(3)
    chances = tf.constant([0.0, 0.7, 0.3])
    drawn = [
        sharpening.views(pictures, pictures[..., 0], predictions, chances, 50, 8, 0.9, (7, step))[2]
        for step in range(20)
    ]
    shares = np.concatenate(drawn).sum(axis=0) / np.concatenate(drawn).sum()
    assert shares[0] == 0
    np.testing.assert_allclose(shares, [0, 0.7, 0.3], atol=0.05)
