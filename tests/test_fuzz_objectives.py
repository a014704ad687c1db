"""Objectives on whatever is in range: empty, of one pixel, of one class, all ties, saturated."""

import math

import numpy as np
import pytest
import tensorflow as tf
from fuzzing import fuzz
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from casm_tf import objectives

TINY = float(np.finfo(np.float32).tiny)
# Below TINY TensorFlow may take a number for 0, and its own sums differ by how it adds them up.
CLOSE = {"rtol": 2e-5, "atol": 1e-5}

in_range = st.sampled_from([0.0, 1e-45, TINY, 0.5, 1 - 2**-24, 1.0]) | st.floats(0, 1, width=32)
saturated = st.sampled_from([0.0, 1e4, -1e4, 1e30, -1e30])


@st.composite
def batches_of_masks(draw, least=0):
    """Masks, float32 [B, H, W, 1]; a part of them constant."""
    shape = (draw(st.integers(least, 3)), *draw(array_shapes(min_dims=2, max_dims=2, max_side=5)))
    masks = draw(arrays(np.float32, shape, elements=in_range))
    for mask in masks:
        if draw(st.integers(0, 3)) == 0:
            mask[:] = draw(st.sampled_from([0.0, 0.5, 1.0]))
    return masks[..., None]


@st.composite
def batches_of_logits(draw, least=0, elements=saturated):
    """Logits, float32 [B, K], K >= 1, and labels, int64 [B]; all classes of some images tie."""
    shape = (draw(st.integers(least, 3)), draw(st.integers(1, 5)))
    logits = draw(arrays(np.float32, shape, elements=st.floats(-50, 50, width=32) | elements))
    for row in logits:
        if draw(st.integers(0, 3)) == 0:
            row[:] = row[0]
    return logits, draw(arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))


def log_softmax(logits):
    """In float64, as it is defined."""
    shifted = np.float64(logits) - np.max(logits, axis=1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def value_and_gradient(function, *arguments):
    """What the function gives, and its gradient for the first argument, as arrays."""
    first = tf.constant(arguments[0])
    with tf.GradientTape() as tape:
        tape.watch(first)
        value = function(first, *arguments[1:])
    return value.numpy(), tape.gradient(value, first).numpy()


@fuzz(60, batch=batches_of_logits())
def test_cross_entropy_and_its_gradient_are_the_formulas(batch):
    logits, labels = batch
    found, gradient = value_and_gradient(objectives.cross_entropy, logits, labels)
    log_p, one_hot = log_softmax(logits), np.eye(logits.shape[1])[labels]
    assert np.all(found >= 0) and found.shape == labels.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, -(log_p * one_hot).sum(axis=1), **CLOSE)
    np.testing.assert_allclose(gradient, np.exp(log_p) - one_hot, **CLOSE)
    score = objectives.classification_score(tf.constant(logits), labels)
    np.testing.assert_array_equal(score, found)


@fuzz(60, batch=batches_of_logits())
def test_entropy_and_its_gradient_are_the_formulas(batch):
    logits, _ = batch
    found, gradient = value_and_gradient(objectives.entropy, logits)
    log_p = log_softmax(logits)
    expected = -(np.exp(log_p) * log_p).sum(axis=1)
    assert np.all(found >= 0) and np.all(found <= math.log(logits.shape[1]) + 1e-6)
    np.testing.assert_allclose(found, expected, **CLOSE)
    # dH / dz_k = -p_k (log p_k + H)
    np.testing.assert_allclose(gradient, -np.exp(log_p) * (log_p + expected[:, None]), **CLOSE)


@fuzz(40, batch=batches_of_logits(), shift=st.integers(-40, 40), data=st.data())
def test_only_differences_of_logits_count_and_not_their_order(batch, shift, data):
    logits, labels = batch
    classes = np.array(data.draw(st.permutations(range(logits.shape[1]))))
    moved = logits[:, classes] + np.float32(shift)
    # Where a class was, so that a label is found again.
    places = np.argsort(classes)[labels]
    # The shift itself is rounded, to the digits of logits of up to 90.
    np.testing.assert_allclose(
        objectives.entropy(moved), objectives.entropy(logits), rtol=0, atol=2e-4
    )
    np.testing.assert_allclose(
        objectives.cross_entropy(moved, places),
        objectives.cross_entropy(logits, labels),
        rtol=1e-5,
        atol=1e-4,
    )


@fuzz(40, batch=batches_of_logits(), dtype=st.sampled_from([tf.int32, tf.int64]))
def test_is_right_takes_the_first_of_equally_large_logits(batch, dtype):
    logits, labels = batch
    found = objectives.is_right(tf.constant(logits), tf.constant(labels, dtype))
    assert found.dtype == tf.float32
    assert found.numpy().tolist() == (logits.argmax(axis=1) == labels).tolist()


@fuzz(40, batch=batches_of_logits(), data=st.data())
def test_the_entropy_score_is_the_entropy_or_nothing(batch, data):
    logits, labels = batch
    right = data.draw(arrays(np.float32, len(labels), elements=st.sampled_from([0.0, 1.0])))
    found = objectives.entropy_score(logits, right).numpy()
    np.testing.assert_array_equal(found, np.where(right, objectives.entropy(logits), 0))


@fuzz(40, batch=batches_of_logits(least=1), data=st.data())
def test_one_images_nan_stays_its_own(batch, data):
    logits, labels = batch
    image = data.draw(st.integers(0, len(labels) - 1))
    broken = logits.copy()
    broken[image] = np.nan
    others = np.arange(len(labels)) != image
    for function in (objectives.entropy, lambda x: objectives.cross_entropy(x, labels)):
        found, gradient = value_and_gradient(function, broken)
        expected = value_and_gradient(function, logits)
        assert np.isnan(found[image])
        np.testing.assert_allclose(found[others], expected[0][others], rtol=1e-6)
        np.testing.assert_allclose(gradient[others], expected[1][others], rtol=1e-6)


@fuzz(40, batch=batches_of_logits(), data=st.data())
def test_classifier_loss_lies_between_its_two(batch, data):
    logits, labels = batch
    others = data.draw(st.permutations(range(len(labels))))
    clean = objectives.cross_entropy(logits, labels).numpy()
    masked = clean[others]
    both = objectives.classifier_loss(clean, masked)
    np.testing.assert_array_equal(both, objectives.classifier_loss(masked, clean))
    assert np.all(both >= np.minimum(clean, masked)) and np.all(both <= np.maximum(clean, masked))
    np.testing.assert_array_equal(objectives.classifier_loss(clean, masked, "masked"), masked)


def plain_terms(mask):
    """The terms of one mask [H, W], pixel by pixel in float64."""
    height, width = mask.shape
    pixels = [float(value) for value in mask.flat]
    variation = 0.0
    for rows, columns in ((1, 0), (0, 1)):
        squares = [
            (float(mask[y + rows, x + columns]) - float(mask[y, x])) ** 2
            for y in range(height - rows)
            for x in range(width - columns)
        ]
        variation += math.fsum(squares) / max(1, len(squares))
    entropy = math.fsum(-m * math.log2(m) for m in pixels if m)
    return math.fsum(pixels) / len(pixels), entropy / len(pixels), variation


@fuzz(60, masks=batches_of_masks())
def test_terms_of_masks_are_the_formulas(masks):
    found = [
        term(tf.constant(masks)).numpy()
        for term in (objectives.mean_mask, objectives.mask_entropy, objectives.total_variation)
    ]
    expected = np.reshape([plain_terms(mask[..., 0]) for mask in masks], (-1, 3)).T
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(objectives.l1_size(masks), -found[0])
    np.testing.assert_array_less(-1e-30, found)
    assert np.all(np.max(found, axis=1, initial=0) <= (1, 0.5308, 2))


@fuzz(60, masks=batches_of_masks())
def test_gradients_of_terms_of_masks_are_finite(masks):
    pixels = masks[0].size if len(masks) else 1
    _, gradient = value_and_gradient(objectives.l1_size, masks)
    np.testing.assert_allclose(gradient, np.full_like(masks, -1 / pixels), rtol=1e-6)
    _, gradient = value_and_gradient(objectives.total_variation, masks)
    assert np.all(np.isfinite(gradient))
    # A constant that is added to all of a mask changes nothing.
    np.testing.assert_allclose(gradient.sum(axis=(1, 2, 3)), 0, atol=1e-5)
    _, gradient = value_and_gradient(objectives.mask_entropy, masks)
    normal = np.maximum(masks, TINY).astype(np.float64)
    expected = -(np.log2(normal) + 1 / math.log(2)) / pixels
    # At 0 the slope has no end; TensorFlow's is 0 there.
    np.testing.assert_allclose(gradient, np.where(masks < TINY, 0, expected), rtol=1e-4, atol=1e-6)


@fuzz(40, masks=batches_of_masks(), data=st.data())
def test_turned_masks_and_other_orders_have_the_same_terms(masks, data):
    order = np.array(data.draw(st.permutations(range(len(masks)))), int)
    for term in (objectives.mean_mask, objectives.mask_entropy, objectives.total_variation):
        expected = term(tf.constant(masks)).numpy()
        for turned in (masks[:, ::-1], masks[:, :, ::-1], masks.transpose(0, 2, 1, 3)):
            np.testing.assert_allclose(term(turned), expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(term(masks[order]), expected[order], rtol=1e-6, atol=1e-7)
    variation = objectives.total_variation
    np.testing.assert_allclose(variation(1 - masks), variation(masks), rtol=1e-4, atol=1e-6)


@fuzz(40, masks=batches_of_masks(), data=st.data())
def test_a_larger_mask_has_the_worse_size_terms(masks, data):
    larger = np.maximum(masks, data.draw(arrays(np.float32, masks.shape, elements=in_range)))
    right = st.sampled_from([0.0, 1.0])
    clean, masked = data.draw(arrays(np.float32, (2, len(masks)), elements=right))
    for size in (objectives.l1_size, lambda m: objectives.adaptive_size(m, clean, masked)):
        assert np.all(size(larger).numpy() <= size(masks).numpy() + 1e-6)
    found = objectives.adaptive_size(masks, clean, masked).numpy()
    shrinks = (clean == 1) & (masked == 0)
    expected = np.where(shrinks, 1 - masks.mean(axis=(1, 2, 3), dtype=np.float64), 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.all(found >= 0) and np.all(found <= 1)


@fuzz(40, masks=batches_of_masks(), scale=st.sampled_from([0.0, 1.0, 1e-30, 1e30]))
def test_what_is_kept_and_what_is_taken_away_are_the_image(masks, scale):
    images = np.float32(scale) * np.random.default_rng(0).normal(size=(*masks.shape[:3], 3))
    images = images.astype(np.float32)
    kept, left = objectives.masked_in(images, masks), objectives.masked_out(images, masks)
    np.testing.assert_allclose(kept + left, images, rtol=1e-6, atol=TINY)
    assert np.all(np.abs(kept) <= np.abs(images)) and np.all(np.abs(left) <= np.abs(images))
    binary = np.round(masks)
    np.testing.assert_array_equal(objectives.masked_in(images, binary), images * (binary == 1))
    np.testing.assert_array_equal(objectives.masked_out(images, binary), images * (binary == 0))


names = st.sampled_from(["F", "L", "FL"]) | st.integers(1, 10**6).map("L{}".format)


@fuzz(60, score=st.sampled_from(["entropy", "classification"]), name=names, data=st.data())
def test_the_originals_lambda_grows_with_the_logarithm_of_the_classes(score, name, data):
    few, many = sorted(data.draw(st.tuples(*[st.integers(1, 10**6)] * 2)))
    found = [objectives.original_lambda(score, name, classes) for classes in (few, many)]
    assert 0 <= found[0] <= found[1] and objectives.original_lambda(score, name, 1) == 0
    squared = objectives.original_lambda(score, name, few**2)
    assert squared == pytest.approx(2 * found[0])
