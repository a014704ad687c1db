"""Masks to boxes, on arrays and in a graph, against plain loops over pixels and exact fractions."""

import fractions
import math

import numpy as np
import pytest
import tensorflow as tf
from fuzz_masks import IN_RANGE, box_lists, masks_of, turned
from fuzzing import fuzz
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from casm_tf.data import crops
from casm_tf.evaluation import localization
from casm_tf.serving import tensor_boxes

predict_boxes = tf.function(
    tensor_boxes.predict_boxes, input_signature=[tf.TensorSpec((None, None, None), tf.float32)]
)
single = masks_of(st.just(1)).map(lambda masks: masks[0])
single_boxes = box_lists().map(lambda boxes: tuple(boxes[0].tolist()))
turns = st.sampled_from(["rows", "columns", "transposed"])


def components(salient):
    """The 4-connected components, each a set of (y, x), in reading order of their first pixels."""
    left = {(y, x) for y, x in np.argwhere(salient).tolist()}
    while left:
        found, edge = set(), [min(left)]
        while edge:
            y, x = edge.pop()
            if (y, x) in left:
                left.remove((y, x))
                found.add((y, x))
                edge += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        yield found


def box_round(pixels):
    rows, columns = zip(*pixels, strict=True)
    return min(columns), min(rows), max(columns) + 1, max(rows) + 1


def turned_together(mask, box, turn):
    scene = {"masks": mask[None], "truths": mask[None], "boxes": [np.array([box])]}
    scene = turned(scene, turn)
    return scene["masks"][0], tuple(scene["boxes"][0][0].tolist())


@fuzz(100, mask=single)
def test_the_volume_rule_by_sorting(mask):
    values = sorted(mask.flat)
    mean = math.fsum(map(float, values)) / len(values)
    threshold = values[math.floor((len(values) - 1) * (1 - mean) + 0.5)]
    threshold = min(max(threshold, np.float32(1e-6)), np.float32(1 - 1e-6))
    np.testing.assert_array_equal(localization.binarize(mask), mask > threshold)


@fuzz(100, mask=single, alphas=st.tuples(*[st.floats(0, 4)] * 2).map(sorted))
def test_the_mean_rule_takes_less_with_a_larger_alpha(mask, alphas):
    more, less = (localization.binarize(mask, "mean", alpha) for alpha in alphas)
    assert not (less & ~more).any() and not more[mask == 0].any()
    mean = math.fsum(map(float, mask.flat)) / mask.size
    for alpha, salient in zip(alphas, (more, less), strict=True):
        assert salient[(mask > alpha * mean * (1 + 1e-6)) & (mask > 0)].all()
        assert not salient[mask < alpha * mean * (1 - 1e-6)].any()


@fuzz(60, value=IN_RANGE, sides=st.tuples(*[st.integers(1, 6)] * 2))
def test_of_a_constant_mask_the_mean_rule_takes_all(value, sides):
    mask = np.full(sides, value, np.float32)
    assert localization.binarize(mask, "mean").all() == (value > 0)
    # By the volume rule all ties with the threshold, which is clipped below 1.
    assert localization.binarize(mask).all() == (np.float32(value) > np.float32(1 - 1e-6))
    assert localization.binarize(mask).all() == localization.binarize(mask).any()


@fuzz(100, mask=single, method=st.sampled_from(["volume", "mean"]))
def test_the_predicted_box_is_round_the_largest_component(mask, method):
    parts = list(components(localization.binarize(mask, method)))
    expected = box_round(max(parts, key=len)) if parts else None
    assert localization.predict_box(mask, method) == expected


@fuzz(100, mask=single, share=st.sampled_from([0, 0.04, 0.1, 0.25]))
def test_component_boxes_are_round_the_largest_and_those_of_a_share(mask, share):
    parts = sorted(components(localization.binarize(mask)), key=len, reverse=True)
    kept = parts[:1] + [part for part in parts[1:] if len(part) / mask.size >= share]
    assert localization.component_boxes(mask, share) == [box_round(part) for part in kept]


@fuzz(60, mask=single, turn=turns)
def test_a_turned_mask_has_the_turned_box(mask, turn):
    sizes = sorted(map(len, components(localization.binarize(mask))))
    box = localization.predict_box(mask)
    other, expected = turned_together(mask, box or (0, 0, 0, 0), turn)
    found = localization.predict_box(other)
    assert (found is None) == (box is None)
    if sizes and sizes.count(sizes[-1]) == 1:
        assert found == expected


@fuzz(100, masks=masks_of(st.integers(0, 3), side=9))
def test_boxes_in_a_graph_are_predict_boxs(masks):
    height, width = masks.shape[1:]
    found = predict_boxes(masks).numpy()
    assert found.shape == (len(masks), 4) and found.dtype == np.float32
    for mask, box in zip(masks, found, strict=True):
        expected = np.float32(localization.predict_box(mask) or (0, 0, 0, 0))
        assert box.tolist() == (expected / np.float32([width, height, width, height])).tolist()


@fuzz(60, masks=masks_of(st.integers(1, 3)), data=st.data())
def test_nan_in_a_graph_stays_in_its_mask(masks, data):
    broken = masks.copy()
    image = data.draw(st.integers(0, len(masks) - 1))
    where = data.draw(arrays(bool, masks.shape[1:]))
    broken[image][where] = np.nan
    found, expected = predict_boxes(broken).numpy(), predict_boxes(masks).numpy()
    others = np.arange(len(masks)) != image
    np.testing.assert_array_equal(found[others], expected[others])
    assert np.all((found >= 0) & (found <= 1))
    if where.any():
        with pytest.raises(ValueError, match="found nan to nan"):
            localization.predict_box(broken[image])


@fuzz(60, mask=single, bad=st.sampled_from([np.inf, -np.inf, -1e-6, 1.001]), data=st.data())
def test_one_number_out_of_range_is_refused(mask, bad, data):
    mask = mask.copy()
    mask.flat[data.draw(st.integers(0, mask.size - 1))] = bad
    for measure in (
        localization.binarize,
        localization.predict_box,
        lambda mask: localization.continuous_f1(mask, (0, 0, 1, 1)),
    ):
        with pytest.raises(ValueError, match=r"in \[0, 1\]; found"):
            measure(mask)


@fuzz(100, first=single_boxes, second=single_boxes, shift=st.integers(-9, 9))
def test_iou_by_counting_pixels(first, second, shift):
    canvas = np.zeros((2, 20, 20), bool)
    for layer, (x0, y0, x1, y1) in zip(canvas, (first, second), strict=True):
        layer[y0 + 5 : y1 + 5, x0 + 5 : x1 + 5] = True
    union = canvas.any(axis=0).sum()
    expected = canvas.all(axis=0).sum() / union if union else 0.0
    assert localization.iou(first, second) == expected
    moved = [tuple(corner + shift for corner in box) for box in (first, second)]
    assert localization.iou(*moved) == expected


@fuzz(100, mask=single, box=single_boxes, turn=turns, data=st.data())
def test_continuous_f1_by_counting_pixels(mask, box, turn, data):
    x0, y0, x1, y1 = box
    weights = [
        (float(mask[y, x]), x0 <= x < x1 and y0 <= y < y1) for y, x in np.ndindex(*mask.shape)
    ]
    inside = math.fsum(value for value, is_inside in weights if is_inside)
    total = math.fsum(value for value, _ in weights) + max(0, x1 - x0) * max(0, y1 - y0)
    found = localization.continuous_f1(mask, box)
    assert 0 <= found <= 1 and found == pytest.approx(2 * inside / total if total else 0)
    assert localization.continuous_f1(*turned_together(mask, box, turn)) == pytest.approx(found)
    # More of the mask inside the box is no worse, more of it outside no better.
    larger = np.maximum(mask, data.draw(arrays(np.float32, mask.shape, elements=IN_RANGE)))
    within = np.reshape([is_inside for _, is_inside in weights], mask.shape)
    better = localization.continuous_f1(np.where(within, larger, mask), box)
    worse = localization.continuous_f1(np.where(within, mask, larger), box)
    assert worse <= found + 1e-12 and found <= better + 1e-12


@fuzz(100, mask=single)
def test_min_max_keeps_the_order_and_takes_all_of_the_range(mask):
    found = localization.min_max(mask)
    assert found.dtype == np.float64 and found.min() == 0
    assert found.max() == (mask.min() < mask.max())
    order = np.argsort(mask, axis=None, kind="stable")
    assert np.all(np.diff(found.ravel()[order]) >= 0)
    np.testing.assert_array_equal(localization.min_max(found), found)
    np.testing.assert_array_equal(localization.min_max(np.float64(mask) / 4), found)


sizes = st.tuples(*[st.integers(1, 700)] * 2)
pixels = st.tuples(*[st.integers(-50, 900)] * 4)


@fuzz(100, size=sizes, box=pixels, crop=st.integers(1, 256), more=st.integers(0, 64))
def test_boxes_in_crop_are_the_formula_in_fractions(size, box, crop, more):
    resize = crop + more
    scale = fractions.Fraction(resize, min(size))
    found = crops.boxes_in_crop([box], size, crop, resize)[0].tolist()
    for corner, number, side in zip(found, box, size * 2, strict=True):
        exact = scale * number - (scale * side - crop) / 2
        # The original's arithmetic in floats may cut a whole pixel off to the one before.
        whole = abs(exact - round(exact)) < 1e-9
        assert corner == math.trunc(exact) or (whole and abs(corner - exact) <= 1 + 1e-9)
