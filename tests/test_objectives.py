"""Each formula against a case worked out by hand."""

import math

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from casm_tf import objectives

# softmax([0, ln 3]) = [1/4, 3/4]; softmax([0, 0]) = [1/2, 1/2]
LOGITS = tf.constant([[0.0, math.log(3)], [0.0, 0.0]])
# [1, 2, 2, 1]: one column of 1 and 0, one of 0.5 and 0; mean 3/8
MASKS = tf.constant([[[[1.0], [0.5]], [[0.0], [0.0]]]])


def test_masking_keeps_and_removes():
    images = tf.fill((1, 2, 2, 3), 2.0)
    assert objectives.masked_in(images, MASKS)[0, :, :, 0].numpy().tolist() == [[2, 1], [0, 0]]
    assert objectives.masked_out(images, MASKS)[0, :, :, 2].numpy().tolist() == [[0, 1], [2, 2]]


def test_cross_entropy():
    # -ln 1/4 and -ln 1/2
    found = objectives.cross_entropy(LOGITS, tf.constant([0, 1]))
    assert found.numpy() == pytest.approx([math.log(4), math.log(2)])


def test_entropy():
    # -(1/4 ln 1/4 + 3/4 ln 3/4) = ln 4 - 3/4 ln 3, and ln 2
    found = objectives.entropy(LOGITS)
    assert found.numpy() == pytest.approx([math.log(4) - 0.75 * math.log(3), math.log(2)])


def test_entropy_score_counts_what_is_right_when_clean():
    found = objectives.entropy_score(LOGITS, tf.constant([0.0, 1.0]))
    assert found.numpy() == pytest.approx([0.0, math.log(2)])


def test_classification_score_is_the_classification_loss():
    found = objectives.classification_score(LOGITS, tf.constant([1, 0]))
    assert found.numpy() == pytest.approx([math.log(4 / 3), math.log(2)])


def test_is_right():
    logits = tf.constant([[0.0, 1.0], [2.0, 1.0]])
    assert objectives.is_right(logits, tf.constant([1, 1])).numpy().tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("clean_right", "masked_right", "expected"),
    # c = 1 only where right on clean and wrong on masked; then 1 - 3/8, else relu(-3/8)
    [(1, 0, 0.625), (1, 1, 0.0), (0, 0, 0.0), (0, 1, 0.0)],
)
def test_adaptive_size(clean_right, masked_right, expected):
    found = objectives.adaptive_size(MASKS, tf.constant([clean_right * 1.0]), masked_right * 1.0)
    assert found.numpy() == pytest.approx([expected])


def test_l1_size_is_minus_the_mean():
    # (1 + 0.5 + 0 + 0) / 4
    assert objectives.mean_mask(MASKS).numpy() == pytest.approx([0.375])
    assert objectives.l1_size(MASKS).numpy() == pytest.approx([-0.375])


@pytest.mark.parametrize(
    "size", [objectives.l1_size, lambda masks: objectives.adaptive_size(masks, 1.0, 0.0)]
)
def test_to_maximise_the_size_term_is_to_shrink_the_mask(size):
    with tf.GradientTape() as tape:
        tape.watch(MASKS)
        value = size(MASKS)
    assert tape.gradient(value, MASKS).numpy().flatten() == pytest.approx([-0.25] * 4)


@pytest.mark.parametrize(("clean_right", "masked_right"), [(1.0, 1.0), (0.0, 0.0)])
def test_a_mask_that_hides_nothing_is_not_pressed_to_shrink(clean_right, masked_right):
    with tf.GradientTape() as tape:
        tape.watch(MASKS)
        value = objectives.adaptive_size(MASKS, clean_right, masked_right)
    assert not np.any(tape.gradient(value, MASKS))


def test_total_variation():
    # down: (1^2 + 0.5^2) / 2 = 0.625; right: (0.5^2 + 0) / 2 = 0.125
    assert objectives.total_variation(MASKS).numpy() == pytest.approx([0.75])


def test_total_variation_along_a_side_of_one_pixel_is_0():
    # A row has the differences 0.5 and 1 to the right alone, and as a column downwards.
    row = tf.constant([[[[0.5], [0.0], [1.0]]]])
    assert objectives.total_variation(row).numpy() == [0.625]
    assert objectives.total_variation(tf.transpose(row, (0, 2, 1, 3))).numpy() == [0.625]
    assert objectives.total_variation(tf.ones((2, 1, 1, 1))).numpy().tolist() == [0, 0]


def test_mask_entropy():
    # of the four pixels only 0.5 counts: 0.5 bit / 4
    assert objectives.mask_entropy(MASKS).numpy() == pytest.approx([0.125])


@pytest.mark.parametrize(
    ("term", "of_ones"),
    [
        (objectives.mean_mask, 1.0),
        (objectives.l1_size, -1.0),
        (objectives.total_variation, 0.0),
        (objectives.mask_entropy, 0.0),
    ],
)
def test_terms_are_one_number_an_image(term, of_ones):
    both = term(tf.concat([MASKS, tf.ones_like(MASKS)], axis=0))
    assert both.numpy() == pytest.approx([term(MASKS).numpy()[0], of_ones])


def test_classifier_loss_is_equation_8_or_3():
    clean, masked = tf.constant([1.0]), tf.constant([4.0])
    assert objectives.classifier_loss(clean, masked, "both").numpy() == [2.5]
    assert objectives.classifier_loss(clean, masked, "masked").numpy() == [4.0]


def test_original_lambda_is_the_papers_for_1000_classes_and_scaled_below():
    papers = {"entropy": (2.5, 14, 7.5, 10, 10), "classification": (9, 18, 11, 17, 17)}
    for score, values in papers.items():
        for thinning, value in zip(("F", "L", "FL", "L100", "L1000"), values, strict=True):
            assert objectives.original_lambda(score, thinning, 1000) == pytest.approx(value)
    # ln 10 / ln 1000 = 1/3
    assert objectives.original_lambda("entropy", "L100", 10) == pytest.approx(10 / 3)
    assert objectives.original_lambda("entropy", "L7", 1000) == pytest.approx(10)


@hypothesis.given(arrays(np.float32, (3, 5), elements=st.floats(-50, 50, width=32)))
def test_entropy_is_between_0_and_that_of_a_guess(logits):
    entropy = objectives.entropy(tf.constant(logits)).numpy()
    assert np.all(entropy >= -1e-6)
    assert np.all(entropy <= math.log(5) + 1e-5)


@hypothesis.given(st.floats(0, 1, width=32))
def test_total_variation_of_a_constant_is_0(value):
    assert objectives.total_variation(tf.fill((1, 4, 3, 1), value)).numpy() == [0.0]


@hypothesis.given(arrays(np.float32, (1, 4, 3, 1), elements=st.floats(0, 1, width=32)))
def test_bounds_of_the_terms_of_a_mask(mask):
    assert -1 <= objectives.l1_size(mask).numpy() <= 0
    assert 0 <= objectives.adaptive_size(mask, 1.0, 0.0).numpy() <= 1
    assert 0 <= objectives.total_variation(mask).numpy() <= 2
    assert 0 <= objectives.mask_entropy(mask).numpy() <= 0.54  # -m log2 m is largest at 1/e


def test_masking_fills_the_hole():
    images, other = tf.fill((1, 2, 2, 3), 2.0), tf.fill((1, 2, 2, 3), 10.0)
    kept = objectives.masked_in(images, MASKS, other)[0, :, :, 0]
    left = objectives.masked_out(images, MASKS, other)[0, :, :, 0]
    assert kept.numpy().tolist() == [[2, 6], [10, 10]]
    assert left.numpy().tolist() == [[10, 6], [2, 2]]


def test_fillings():
    # Two images of 16x16: the left half 0 and the right half 1, and its mirror image; both x 3.
    ramp = np.repeat(np.arange(16) // 8, 3).reshape(1, 16, 3)
    images = tf.constant(np.stack([np.repeat(x, 16, 0) for x in (ramp, ramp[:, ::-1])]), tf.float32)
    assert objectives.filling(images, "mean") is None
    np.testing.assert_array_equal(objectives.filling(images, "shuffle"), images[::-1])
    blurred = objectives.filling(images, "blur").numpy()
    np.testing.assert_allclose(blurred.mean(axis=(1, 2)), 0.5, atol=1e-6)
    # Cells of 2x2: at the edge between 0 and 1 a fourth and three fourths.
    np.testing.assert_allclose(blurred[0, 5, 6:10, 0], [0, 0.25, 0.75, 1], atol=1e-6)
    # 20 pixels in 8 cells of 2.5: the third pixel is half the first cell's, half the second's.
    pixels = np.zeros((1, 20, 20, 3), np.float32)
    pixels[:, :, 2] = 5
    cells = objectives.filling(tf.constant(pixels), "blur")[0, 10, :, 0].numpy()
    assert cells[[0, 2]] == pytest.approx([1, 1]) and cells[12:] == pytest.approx(0)
    noise = objectives.filling(tf.repeat(tf.repeat(images, 8, 1), 8, 2), "noise", 1, 2).numpy()
    assert noise.mean(axis=(1, 2)) == pytest.approx(0.5, abs=0.02)
    assert noise.std(axis=(1, 2)) == pytest.approx(0.5, abs=0.02)
    again, later = (objectives.filling(images, "noise", 1, step).numpy() for step in (2, 3))
    np.testing.assert_array_equal(again, objectives.filling(images, "noise", 1, 2))
    assert not (again == later).any()
