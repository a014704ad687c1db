"""Crops, insertion and deletion: by hand on small images, and what they do to every image."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from casm_tf.evaluation import (
    InsertionDeletion,
    SaliencyMetric,
    crop_to_boxes,
    deletion_images,
    insertion_images,
)

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
MASKS = np.random.default_rng(1).random((2, 32, 32), np.float32)


def accumulated(evaluator, *batch):
    evaluator.accumulate(*batch)
    return evaluator


def test_saliency_metric_by_hand():
    evaluator = accumulated(SaliencyMetric(), [0.5, 0.01], [0.25, 1.0])
    expected = (np.log(0.5 / 0.25) + np.log(0.05)) / 2
    assert evaluator.compute() == {"saliency_metric": pytest.approx(expected)}
    assert expected < 0
    evaluator.accumulate([1.0], [0.5])
    expected = (2 * expected + np.log(2)) / 3
    assert evaluator.compute() == {"saliency_metric": pytest.approx(expected)}


def test_a_probability_of_0_counts_as_the_smallest():
    found = accumulated(SaliencyMetric(), [1.0], [0.0]).compute()["saliency_metric"]
    assert found == pytest.approx(126 * np.log(2))


def test_crops_by_hand():
    # Four pixels of two colours, enlarged to twice their size: bilinear between pixels' centres.
    images = np.zeros((3, 4, 4, 3), np.float32)
    images[0, 1:3, 2] = 1
    images[1:] = IMAGES[:, :4, :4]
    crops, areas = crop_to_boxes(images, [(1, 1, 3, 3), None, (0, 0, 4, 2)])
    assert crops.dtype == np.float32 and crops.shape == images.shape
    np.testing.assert_allclose(crops[0, ..., 0], [[0, 0.25, 0.75, 1]] * 4)
    np.testing.assert_array_equal(crops[1], images[1])
    np.testing.assert_allclose(crops[2, 1], 0.75 * images[2, 0] + 0.25 * images[2, 1], rtol=1e-5)
    assert areas.tolist() == [0.25, 1, 0.5]


def test_deletion_by_hand():
    images = np.arange(1, 13, dtype=np.float32).reshape(1, 2, 2, 3)
    # The two of 0.5 tie: the first in reading order goes first.
    steps = deletion_images(images, [[[0.5, 0.1], [0.5, 0.9]]], steps=4)
    left = [(step != 0).all(axis=-1).astype(int).ravel().tolist() for step in steps]
    assert left == [[1, 1, 1, 1], [1, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_equally_salient_pixels_go_in_reading_order():
    mask = np.round(MASKS[:1])
    order = sorted(range(32 * 32), key=lambda pixel: (-mask.flat[pixel], pixel))
    for number, step in enumerate(deletion_images(IMAGES[:1], mask, 32)):
        gone = np.flatnonzero((step == 0).all(axis=-1))
        assert gone.tolist() == sorted(order[: 32 * number])


def test_insertion_by_hand():
    # A single pixel of 1, blurred: its neighbour has exp(-1 / 50) of its part.
    images = np.zeros((1, 32, 32, 3), np.float32)
    images[0, 16, 16] = 1
    mask = np.zeros((1, 32, 32))
    mask[0, 16, 16] = 1
    first, second, third = insertion_images(images, mask, steps=2)
    weights = np.exp(-(np.arange(-5, 6) ** 2) / 50)
    assert first[0, 16, 16, 0] == pytest.approx((weights[5] / weights.sum()) ** 2)
    assert first[0, 16, 17, 0] / first[0, 16, 16, 0] == pytest.approx(np.exp(-1 / 50))
    # Half of the pixels are restored: that one, then the first in reading order.
    assert second[0, 16, 16, 0] == 1 and not second[0, :15].any()
    np.testing.assert_array_equal(second[0, 17:], first[0, 17:])
    np.testing.assert_array_equal(third, images)


def test_outside_of_the_image_is_the_mean():
    # The image is 1 and the mean 0: a corner keeps what a quarter of the blur sees.
    blurred = next(insertion_images(np.ones((1, 32, 32, 3)), np.zeros((1, 32, 32)), steps=1))
    weights = np.exp(-(np.arange(-5, 6) ** 2) / 50)
    assert blurred[0, 16, 16, 0] == pytest.approx(1)
    assert blurred[0, 0, 0, 0] == pytest.approx((weights[5:].sum() / weights.sum()) ** 2)


@pytest.mark.parametrize("perturb", [deletion_images, insertion_images])
@hypothesis.given(steps=st.integers(1, 40))
def test_each_step_changes_its_share_of_the_most_salient(perturb, steps):
    seen = list(perturb(IMAGES, MASKS, steps))
    assert len(seen) == steps + 1
    for number, step in enumerate(seen):
        for image, start, mask in zip(step, seen[0], MASKS, strict=True):
            changed = (image != start).any(axis=-1)
            assert changed.sum() == number * 32 * 32 // steps
            assert mask[changed].min(initial=1) >= mask[~changed].max(initial=0)
    end = IMAGES if perturb is insertion_images else 0 * IMAGES
    np.testing.assert_array_equal(seen[-1], end)


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_masks_of_0_and_1_may_be_of_any_type(dtype):
    _, second, _ = deletion_images(np.ones((1, 1, 2, 3)), np.array([[[0, 1]]], dtype), 2)
    assert second[0, 0, :, 0].tolist() == [1, 0]


@pytest.mark.parametrize("perturb", [deletion_images, insertion_images])
def test_no_image_has_steps_too(perturb):
    seen = list(perturb(IMAGES[:0], MASKS[:0], 4))
    assert [(step.shape, step.dtype) for step in seen] == [((0, 32, 32, 3), np.float32)] * 5


def test_steps_may_be_changed_by_who_gets_them():
    images = IMAGES.copy()
    kept = [step.copy() for step in deletion_images(IMAGES, MASKS, 3)]
    for step, expected in zip(deletion_images(images, MASKS, 3), kept, strict=True):
        np.testing.assert_array_equal(step, expected)
        step[:] = np.nan
    np.testing.assert_array_equal(images, IMAGES)


def test_areas_by_hand():
    evaluator = InsertionDeletion()
    evaluator.accumulate(insertion=[[0, 0.5, 1], [0, 1, 1]], deletion=[[1, 0, 0], [0.5, 0, 0]])
    evaluator.accumulate(insertion=[[0, 0, 1]], deletion=[[0.6, 0.3, 0]])
    curves = evaluator.curves()
    np.testing.assert_allclose(curves["insertion"], [0, 0.5, 1])
    np.testing.assert_allclose(curves["deletion"], [0.7, 0.1, 0])
    expected = {"insertion": (0 + 2 * 0.5 + 1) / 4, "deletion": (0.7 + 2 * 0.1) / 4}
    assert evaluator.compute() == pytest.approx(expected)


@hypothesis.given(curves=arrays(float, (2, 6, 4), elements=st.floats(0, 1)))
def test_the_batches_do_not_matter(curves):
    streamed = InsertionDeletion()
    for first, last in itertools.pairwise((0, 2, 2, 6)):
        streamed.accumulate(*curves[:, first:last])
    together = accumulated(InsertionDeletion(), *curves).compute()
    assert streamed.compute() == pytest.approx(together)
    assert 0 <= together["insertion"] <= 1 and 0 <= together["deletion"] <= 1
    metric = SaliencyMetric()
    for first, last in ((0, 1), (1, 4)):
        metric.accumulate(*curves[:, 0, first:last])
    assert metric.compute() == pytest.approx(accumulated(SaliencyMetric(), *curves[:, 0]).compute())


@pytest.mark.parametrize("perturb", [deletion_images, insertion_images])
@pytest.mark.parametrize(
    "images, masks, steps, message",
    [
        (IMAGES, MASKS[:1], 4, r"\[1, 32, 32, 3\] for masks \[1, 32, 32\]; found \[2, 32, 32, 3\]"),
        (IMAGES, np.full_like(MASKS, np.nan), 4, "found nan to nan"),
        (IMAGES, MASKS, 0, "steps are 1 to 1024, the number of pixels; found 0"),
        (IMAGES, MASKS, 1025, "found 1025"),
    ],
)
def test_unfit_images_are_refused_at_once(perturb, images, masks, steps, message):
    with pytest.raises(ValueError, match=message):
        perturb(images, masks, steps)


def test_unfit_crops_are_refused():
    with pytest.raises(ValueError, match=r"inside the image of 32x32; found \(0, 0, 33, 4\)"):
        crop_to_boxes(IMAGES, [None, (0, 0, 33, 4)])
    with pytest.raises(ValueError, match=r"found \(4, 0, 4, 4\)"):
        crop_to_boxes(IMAGES, [None, (4, 0, 4, 4)])
    with pytest.raises(ValueError, match=r"found shape \[2, 32, 32, 3\] and 1 boxes"):
        crop_to_boxes(IMAGES, [None])


def test_unfit_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"areas are in \[0, 1\]; found 2 to 2"):
        SaliencyMetric().accumulate([2], [0.5])
    with pytest.raises(ValueError, match=r"probabilities are of shape \[2\]; found \[2, 3\]"):
        SaliencyMetric().accumulate([1, 1], np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"insertion's .* found nan to nan"):
        InsertionDeletion().accumulate([[np.nan, 1]], [[0, 1]])
    with pytest.raises(ValueError, match=r"at least 2 steps; found \[1, 1\]"):
        InsertionDeletion().accumulate([[1]], [[1]])
    with pytest.raises(ValueError, match=r"deletion's .* shape \[1, 3\]; found \[1, 2\]"):
        InsertionDeletion().accumulate([[0, 1, 1]], [[0, 1]])
    with pytest.raises(ValueError, match=r"of shape \[None, 2\]; found \[1, 3\]"):
        accumulated(InsertionDeletion(), [[0, 1]], [[0, 1]]).accumulate([[0, 1, 1]], [[0, 1, 1]])


@pytest.mark.parametrize("evaluator", [InsertionDeletion, SaliencyMetric])
def test_nothing_seen_is_an_error(evaluator):
    with pytest.raises(ValueError, match=f"{evaluator.__name__} has seen no image"):
        evaluator().compute()
