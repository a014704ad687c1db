"""Crops, insertion, deletion and all scores together, on masks of any shape, type and value."""

import math

import numpy as np
import pytest
from fuzz_masks import masks_of, scenes
from fuzzing import fuzz
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from casm_tf.evaluation import (
    InsertionDeletion,
    SaliencyMetric,
    crop_to_boxes,
    deletion_images,
    insertion_images,
)
from casm_tf.evaluation.localization import predict_box
from casm_tf.evaluation.method_scores import Batch, Scores

probabilities = st.sampled_from([0.0, 1e-300, 1e-45, 1e-38, 1.0]) | st.floats(0, 1)


@fuzz(60, batch=arrays(float, st.tuples(st.just(2), st.integers(1, 5)), elements=probabilities))
def test_the_saliency_metric_is_the_formula_and_monotone(batch):
    areas, seen = batch

    def metric(areas, seen):
        evaluator = SaliencyMetric()
        evaluator.accumulate(areas, seen)
        return evaluator.compute()["saliency_metric"]

    expected = [
        math.log(max(a, 0.05)) - math.log(max(p, 2.0**-126))
        for a, p in zip(areas.tolist(), seen.tolist(), strict=True)
    ]
    found = metric(areas, seen)
    assert found == pytest.approx(math.fsum(expected) / len(expected), abs=1e-12)
    assert metric(np.sqrt(areas), seen) >= found - 1e-12 >= metric(areas, np.sqrt(seen)) - 2e-12


@fuzz(
    60,
    curves=arrays(
        float,
        st.tuples(st.just(2), st.integers(1, 3), st.integers(2, 6)),
        elements=probabilities,
    ),
)
def test_areas_under_curves(curves):
    def areas(insertion, deletion):
        evaluator = InsertionDeletion()
        evaluator.accumulate(insertion, deletion)
        return evaluator.compute()

    found = areas(*curves)
    expected = ((curves[:, :, 1:] + curves[:, :, :-1]) / 2).mean(axis=(1, 2))
    assert [found["insertion"], found["deletion"]] == pytest.approx(expected.tolist(), abs=1e-12)
    assert areas(*curves[:, :, ::-1]) == pytest.approx(found, abs=1e-12)
    rest = areas(*(1 - curves))
    assert rest == pytest.approx({key: 1 - value for key, value in found.items()}, abs=1e-12)


@fuzz(
    40,
    masks=masks_of(st.integers(0, 3), kinds=(np.float32, np.float64, np.float16, bool, np.uint8)),
    data=st.data(),
)
def test_perturbed_images(masks, data):
    pixels = masks[0].size if len(masks) else 1
    steps = data.draw(st.integers(1, pixels))
    images = np.random.default_rng(0).normal(1, 0.1, (*masks.shape, 3)).astype(np.float32)
    order = [
        sorted(range(pixels), key=lambda pixel, mask=mask: (-float(mask.flat[pixel]), pixel))
        for mask in masks
    ]
    for perturb in (deletion_images, insertion_images):
        seen = list(perturb(images, masks, steps))
        start, end = images, np.zeros_like(images)
        if perturb is insertion_images:
            start, end = plain_blur(images), images
        assert len(seen) == steps + 1
        for number, step in enumerate(seen):
            assert step.shape == images.shape and step.dtype == np.float32
            for index, pixel_order in enumerate(order):
                expected = start[index].reshape(-1, 3).copy()
                gone = pixel_order[: number * pixels // steps]
                expected[gone] = end[index].reshape(-1, 3)[gone]
                np.testing.assert_allclose(step[index].reshape(-1, 3), expected, atol=1e-5)


def plain_blur(images):
    """A Gaussian of 11x11 pixels and a deviation of 5, zeros outside, pixel by pixel."""
    weights = np.exp(-(np.arange(-5, 6) ** 2) / 50)
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(np.float64(images), ((0, 0), (5, 5), (5, 5), (0, 0)))
    blurred = np.zeros(images.shape)
    for y, x in np.ndindex(*images.shape[1:3]):
        window = padded[:, y : y + 11, x : x + 11]
        blurred[:, y, x] = np.einsum("byxc,yx->bc", window, kernel)
    return blurred


@fuzz(60, masks=masks_of(st.integers(0, 3)))
def test_crops_of_predicted_boxes(masks):
    images = np.random.default_rng(0).normal(size=(*masks.shape, 3)).astype(np.float32)
    boxes = [predict_box(mask) for mask in masks]
    crops, areas = crop_to_boxes(images, boxes)
    assert (
        crops.shape == images.shape and crops.dtype == np.float32 and areas.shape == (len(boxes),)
    )
    mirrored = [
        box and (masks.shape[2] - box[2], box[1], masks.shape[2] - box[0], box[3]) for box in boxes
    ]
    flipped, _ = crop_to_boxes(images[:, :, ::-1], mirrored)
    np.testing.assert_allclose(flipped[:, :, ::-1], crops, atol=1e-5)
    for image, crop, area, box in zip(images, crops, areas, boxes, strict=True):
        x0, y0, x1, y1 = box or (0, 0, *image.shape[1::-1])
        inside = image[y0:y1, x0:x1]
        assert area == pytest.approx(inside.size / image.size)
        # Interpolation stays between the least and the largest value of each channel.
        assert np.all(crop >= inside.min(axis=(0, 1)) - 1e-5)
        assert np.all(crop <= inside.max(axis=(0, 1)) + 1e-5)


@fuzz(40, scene=scenes(least=1), classes=st.integers(1, 3), data=st.data())
def test_all_scores_together(scene, classes, data):
    masks = scene["masks"]
    count = len(masks)
    images = np.random.default_rng(0).normal(size=(*masks.shape, 3)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(3, classes)).astype(np.float32)
    with_box, with_mask = data.draw(arrays(bool, (2, count)))
    steps = data.draw(st.sampled_from([0, 1]))

    def classify(images):
        return np.mean(images, axis=(1, 2)) @ kernel

    def scored(*parts):
        scores = Scores(classify, classify, perturbation_steps=steps)
        for images_of in parts:
            batch = Batch(
                images=images[images_of],
                labels=scene["labels"][images_of] % classes,
                boxes=[
                    scene["boxes"][i] if with_box[i] else np.zeros((0, 4), int) for i in images_of
                ],
                masks=scene["truths"][images_of],
                has_mask=with_mask[images_of],
                classes=classify(images[images_of]).argmax(-1),
                judged=classify(images[images_of]).argmax(-1),
            )
            scores.accumulate(batch, masks[images_of])
        return scores.compute()

    everything = np.arange(count)
    found = scored(everything)
    assert all(math.isfinite(value) for value in found.values())
    assert ("LE" in found) == with_box.any() and ("PxAP" in found) == bool(
        scene["truths"][with_mask].any()
    )
    assert ("insertion" in found) == (steps > 0)
    if classes == 1:
        assert found["top1"] == found["top1_masked_in"] == found["top1_masked_out"] == 1
        assert found.get("insertion", 1) == found.get("deletion", 1) == 1
    cut = data.draw(st.integers(0, count))
    parts = scored(everything[cut:], everything[:0], everything[:cut])
    assert parts == pytest.approx(found, rel=1e-5, abs=1e-6)
