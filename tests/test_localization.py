"""Boxes, IoU and F1: the original code's answers, cases worked out by hand, properties."""

import json
import pathlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from casm_tf.data.crops import boxes_in_crop
from casm_tf.evaluation.localization import binarize, continuous_f1, iou, predict_box

DATA = pathlib.Path(__file__).parent / "data"
CASES = json.loads((DATA / "original_metrics.json").read_text())["cases"]
with np.load(DATA / "original_metrics.npz") as golden:
    MASKS = golden["masks"] / np.float32(255)

golden_cases = pytest.mark.parametrize(
    "mask, case", list(zip(MASKS, CASES, strict=True)), ids=range(len(CASES))
)
masks = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.5, 1.0]),
)
coordinates = st.integers(-20, 20)
boxes = st.tuples(coordinates, coordinates, st.integers(0, 20), st.integers(0, 20)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)


@golden_cases
def test_boxes_in_crop_are_the_originals(mask, case):
    found = boxes_in_crop(case["boxes"], case["image_size"], crop=224)
    assert found.tolist() == case["boxes_in_crop"]


@golden_cases
def test_binarized_share_is_exactly_the_originals(mask, case):
    assert np.float32(binarize(mask).mean()) == np.float32(case["binarized_fraction"])


@golden_cases
def test_predicted_box_is_the_originals(mask, case):
    expected = case["predicted_box"]
    assert predict_box(mask) == (expected and tuple(expected))


@golden_cases
def test_f1_and_hits_are_the_originals(mask, case):
    predicted = predict_box(mask)
    f1 = [continuous_f1(mask, box) for box in case["boxes_in_crop"]]
    hits = [bool(predicted) and iou(predicted, box) > 0.5 for box in case["boxes_in_crop"]]
    np.testing.assert_allclose(f1, case["f1"], rtol=0, atol=1e-6)
    assert hits == case["hit"]


def test_volume_rule_by_hand():
    # The mean is 0.5, so of five pixels the (5 - 1) * 0.5 = 2 brightest.
    mask = [[0.9, 0.1, 0.3, 0.8, 0.4]]
    assert binarize(mask).tolist() == [[True, False, False, True, False]]


def test_mean_rule_by_hand():
    # The mean is 0.5: at least 0.5 for alpha = 1, at least 0.9 for alpha = 1.8.
    mask = [[1.0, 0.5, 0.25, 0.25]]
    assert binarize(mask, "mean").tolist() == [[True, True, False, False]]
    assert binarize(mask, "mean", alpha=1.8).tolist() == [[True, False, False, False]]


def test_pixels_that_tie_with_the_volume_threshold_go_out():
    # The mean is 0.5 and rank 2 of 0 to 4 holds 0.6, like rank 3: only what is above is left.
    assert binarize([[0.9, 0.6, 0.6, 0.3, 0.1]]).tolist() == [[True, False, False, False, False]]
    assert predict_box(np.full((4, 4), 0.5)) is None


def test_diagonal_neighbours_are_not_connected():
    mask = [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
    assert predict_box(mask) == (2, 1, 4, 3)


def test_first_of_equally_large_components_in_reading_order():
    # The second one starts further to the left, but a row below.
    mask = np.zeros((5, 5))
    mask[2:4, 0] = 1
    mask[1, 3:5] = 1
    assert predict_box(mask) == (3, 1, 5, 2)


@pytest.mark.parametrize("method", ["volume", "mean"])
def test_trivial_masks(method):
    single_pixel = np.zeros((5, 7))
    single_pixel[3, 2] = 1
    assert predict_box(np.zeros((5, 7)), method) is None
    assert predict_box(np.ones((5, 7)), method) == (0, 0, 7, 5)
    assert predict_box(single_pixel, method) == (2, 3, 3, 4)
    assert predict_box([[1]], method) == (0, 0, 1, 1)


def test_boxes_in_crop_by_hand():
    # 400 x 200 to 200 x 100, of which 50 columns go on either side: -5.5 and 49.5 lose their half.
    found = boxes_in_crop([[89, 20, 199, 201]], image_size=(400, 200), crop=100)
    assert found.tolist() == [[-5, 10, 49, 100]]
    found = boxes_in_crop([[20, 89, 201, 199]], image_size=(200, 400), crop=100)
    assert found.tolist() == [[10, -5, 100, 49]]
    assert boxes_in_crop([], image_size=(200, 400), crop=100).shape == (0, 4)


def test_iou_by_hand():
    # 4 pixels in common; 16 + 8 - 4 in either.
    assert iou((0, 0, 4, 4), (2, 2, 4, 6)) == 4 / 20
    assert iou((0, 0, 4, 4), (4, 0, 8, 4)) == 0
    assert iou((1, 1, 1, 1), (1, 1, 1, 1)) == 0


def test_continuous_f1_by_hand():
    # Inside 1.5 of 2; the box has 4 pixels, two of them beyond the image: P = 3/4, R = 3/8.
    mask = [[1.0, 0.5], [0.5, 0.0]]
    precision, recall = 3 / 4, 3 / 8
    expected = 2 * precision * recall / (precision + recall)
    assert continuous_f1(mask, (-1, 0, 1, 2)) == pytest.approx(expected, abs=1e-12)
    assert continuous_f1(mask, (-4, -4, -1, -1)) == 0
    assert continuous_f1(np.zeros((2, 2)), (0, 0, 1, 1)) == 0


@hypothesis.given(mask=masks, method=st.sampled_from(["volume", "mean"]))
def test_predicted_box_is_tight_and_inside(mask, method):
    salient = binarize(mask, method)
    box = predict_box(mask, method)
    assert (box is None) == (not salient.any())
    if box:
        x0, y0, x1, y1 = box
        assert 0 <= x0 < x1 <= mask.shape[1] and 0 <= y0 < y1 <= mask.shape[0]
        inside = salient[y0:y1, x0:x1]
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


@hypothesis.given(mask=masks)
def test_volume_rule_takes_no_more_than_the_volume(mask):
    assert binarize(mask).sum() <= mask.sum(dtype=np.float64) + 0.5


@hypothesis.given(mask=arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_a_binary_mask_is_its_own_binarization(mask):
    np.testing.assert_array_equal(binarize(mask), mask)


@hypothesis.given(first=boxes, second=boxes)
def test_iou_is_symmetric_and_a_share(first, second):
    assert iou(first, second) == iou(second, first)
    assert 0 <= iou(first, second) <= 1
    assert iou(first, first) in (0, 1)


@hypothesis.given(mask=masks, box=boxes)
def test_f1_is_a_share_and_that_of_precision_and_recall(mask, box):
    f1 = continuous_f1(mask, box)
    assert 0 <= f1 <= 1
    x0, y0, x1, y1 = np.maximum(box, 0)
    inside = mask[y0:y1, x0:x1].sum(dtype=np.float64)
    if inside:
        precision = inside / mask.sum(dtype=np.float64)
        recall = inside / ((box[2] - box[0]) * (box[3] - box[1]))
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize(
    "measure", [binarize, predict_box, lambda m: continuous_f1(m, (0, 0, 1, 1))]
)
@pytest.mark.parametrize(
    "mask, message",
    [
        (np.zeros((4, 4, 1)), r"found shape \[4, 4, 1\]"),
        (np.zeros((0, 4)), r"found shape \[0, 4\]"),
        ([[0.5, np.nan]], "found nan to nan"),
        (np.full((4, 4), 255), "found 255 to 255"),
        ([[-0.5, 1.5]], "found -0.5 to 1.5"),
    ],
)
def test_an_unfit_mask_is_refused(measure, mask, message):
    with pytest.raises(ValueError, match=message):
        measure(mask)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="'volume' or 'mean'; found 'otsu'"):
        predict_box(np.ones((2, 2)), "otsu")
