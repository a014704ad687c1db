"""MaxBoxAcc against contours drawn and measured by OpenCV itself, one threshold at a time."""

import threading

import cv2
import numpy as np
import pytest
from fuzzing import fuzz
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from casm_tf import host
from casm_tf.evaluation import max_box_acc
from casm_tf.evaluation.localization import min_max

some_masks = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]) | st.floats(0, 1),
)
repeats = st.lists(st.integers(1, 4), min_size=9, max_size=9)
some_boxes = arrays(int, st.tuples(st.integers(1, 3), st.just(4)), elements=st.integers(0, 20)).map(
    lambda boxes: np.concatenate([boxes[:, :2], boxes[:, :2] + 1 + boxes[:, 2:]], axis=1)
)


def one_at_a_time(mask, boxes):
    """What `_ious_by_level` gives, as the benchmark does it: contours anew at each level."""
    levels = (255 * min_max(mask)).astype(np.uint8)
    truths = boxes.T[:, None] + np.array([0, 0, 1, 1])[:, None, None]
    ious = np.zeros((2, 255))
    for level in range(int(levels.max())):
        if level and not (levels == level).any():
            ious[:, level] = ious[:, level - 1]
            continue
        above = np.uint8(levels > level)
        contours, _ = cv2.findContours(above, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        x, y, w, h = np.array([*map(cv2.boundingRect, contours)]).T[..., None]
        height, width = mask.shape
        predicted = x, y, np.minimum(x + w + 1, width), np.minimum(y + h + 1, height)
        found = max_box_acc._ious(np.stack(predicted), truths).max(axis=1)
        ious[:, level] = found[np.argmax([*map(cv2.contourArea, contours)])], found.max()
    return ious


def assert_as_one_at_a_time(mask, boxes):
    found = max_box_acc._ious_by_level(mask, boxes)
    np.testing.assert_array_equal(found, one_at_a_time(mask, boxes))


def blobs(side, interpolation):
    """A smooth mask of a quarter of the side, enlarged."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).random((side // 4, side // 4)), (0, 0), 2)
    return cv2.resize(min_max(noise), (side, side), interpolation=interpolation)


@fuzz(
    60,
    mask=some_masks,
    across=repeats,
    down=repeats,
    boxes=some_boxes,
    pixels=st.sampled_from([1, 300, 800_000]),
)
def test_ious_are_those_of_every_level_alone(mask, across, down, boxes, pixels):
    mask = mask.repeat(down[: mask.shape[0]], axis=0).repeat(across[: mask.shape[1]], axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(max_box_acc, "_TILED_PIXELS", pixels)
        assert_as_one_at_a_time(mask, boxes)


@pytest.mark.parametrize(
    "mask",
    [
        blobs(96, cv2.INTER_NEAREST),
        blobs(96, cv2.INTER_LINEAR),
        np.random.default_rng(0).random((20, 40)),
    ],
    ids=["nearest", "bilinear", "noise"],
)
def test_ious_of_large_masks_are_those_of_every_level_alone(mask):
    assert_as_one_at_a_time(mask, np.array([[3, 5, 70, 60], [10, 10, 30, 40]]))


@pytest.mark.parametrize(
    "rows",
    [
        # Of two equal objects the lower one; of two in a row the right one.
        ["11000", "11000", "00000", "00011", "00011"],
        ["11011", "11011"],
        # Lines have no area; the last is a point in a ring's hole, which has.
        ["10000", "00100", "00001"],
        ["01110", "10001", "10101", "10001", "01110"],
        # A ring whose hole has the same area, with a line that makes its box longer.
        ["00100000", "01011111", "00100000"],
    ],
)
def test_equal_areas_are_told_apart_as_opencv_does(rows):
    mask = np.array([[*map(float, row)] for row in rows])
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            assert_as_one_at_a_time(mask, np.array([[x, y, x + 2, y + 2]]))


def test_of_a_mask_enlarged_by_nearest_two_pixels_a_cell_are_looked_at(monkeypatch):
    sizes, find = [], cv2.findContours
    monkeypatch.setattr(
        cv2, "findContours", lambda above, *a: sizes.append(above.size) or find(above, *a)
    )
    mask = blobs(224, cv2.INTER_NEAREST)
    max_box_acc._ious_by_level(mask, np.array([[0, 0, 9, 9]]))
    levels = len(np.unique((255 * mask).astype(np.uint8))) - 1
    assert sum(sizes) == levels * 112 * 113


def test_as_many_masks_as_there_are_cores_are_scored_at_once(monkeypatch):
    together = threading.Barrier(3)

    def wait_for_the_others(mask, boxes):
        together.wait(timeout=60)
        return np.full((2, 255), mask[0, 0])

    monkeypatch.setattr(max_box_acc, "_ious_by_level", wait_for_the_others)
    monkeypatch.setattr(host, "cores", lambda: 3)
    evaluator = max_box_acc.MaxBoxAcc()
    evaluator.accumulate(np.array([0, 0.4, 1]).reshape(3, 1, 1), [np.array([[0, 0, 1, 1]])] * 3)
    assert evaluator.accuracies()["all"][:, 0].tolist() == [2 / 3, 1 / 3, 1 / 3]
