"""The field's later measures: the benchmark's answers, cases worked out by hand, plain peers."""

import json
import pathlib

import cv2
import hypothesis
import numpy as np
import pytest
import scipy.ndimage
import sklearn.metrics
from fuzzing import fuzz
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from casm_tf.evaluation import MaxBoxAcc, PointingGame, PxAP, max_box_acc
from casm_tf.evaluation.localization import min_max

DATA = pathlib.Path(__file__).parent / "data"
GOLDEN = json.loads((DATA / "original_metrics.json").read_text())
WSOL = GOLDEN["aggregate"]["wsol"]
# The benchmark's answers leave out the first two masks, which are constant.
CASES = GOLDEN["cases"][2:]
with np.load(DATA / "original_metrics.npz") as golden:
    MASKS = golden["masks"][2:] / 255
IMAGE_BOX = np.array([[0, 0, 8, 6]])

small_masks = arrays(
    np.float64, (6, 8), elements=st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]) | st.floats(0, 1)
)
small_boxes = arrays(int, (2, 4), elements=st.integers(0, 4)).map(
    lambda boxes: boxes + np.array([0, 0, 4, 2])
)
truths = arrays(bool, (6, 8))


def boxes_of_the_square(case):
    """The boxes of a photograph that is made 224x224, truncated."""
    width, height = case["image_size"]
    return (np.array(case["boxes"]) * 224 / [width, height, width, height]).astype(int)


def accumulated(evaluator, *batch):
    evaluator.accumulate(*batch)
    return evaluator


def test_box_accuracies_are_the_benchmarks():
    evaluator = accumulated(MaxBoxAcc(), MASKS, [boxes_of_the_square(case) for case in CASES])
    best = {kind: shares.max(axis=1) for kind, shares in evaluator.accuracies().items()}
    largest, every = WSOL["max_box_acc_single_contour"], WSOL["max_box_acc_multi_contour"]
    np.testing.assert_allclose(100 * best["largest"], largest, rtol=0, atol=1e-6)
    np.testing.assert_allclose(100 * best["all"], every, rtol=0, atol=1e-6)
    expected = {"MaxBoxAcc": largest[1] / 100, "MaxBoxAccV2": np.mean(every) / 100}
    assert evaluator.compute() == pytest.approx(expected, rel=0, abs=1e-8)


def test_pxap_is_the_benchmarks():
    truth = np.zeros(MASKS.shape, np.uint8)
    for mask, case in zip(truth, CASES, strict=True):
        x0, y0, x1, y1 = np.clip(case["boxes_in_crop"][-1], 0, 224)
        mask[y0:y1, x0:x1] = 1
    found = accumulated(PxAP(), MASKS, truth).compute()["PxAP"]
    assert 100 * found == pytest.approx(WSOL["pxap_against_last_box"], rel=0, abs=1e-6)


def test_min_max_by_hand():
    np.testing.assert_array_equal(min_max([[0.25, 0.5], [0.75, 0.25]]), [[0, 0.5], [1, 0]])
    np.testing.assert_array_equal(min_max([[0.3, 0.3]]), [[0, 0]])


def test_max_box_acc_by_hand():
    # Of 255 levels the larger object has 127 and the smaller one 255. t = 0.499 is the first whose
    # 255 t reaches 127: only the smaller object is left.
    masks = np.zeros((2, 12, 12))
    masks[:, 1:6, 1:6] = 0.5
    masks[:, 8:11, 7:10] = 1
    boxes = [[[7, 8, 10, 11]], [[1, 1, 6, 6], [0, 0, 1, 1]]]
    evaluator = accumulated(MaxBoxAcc(), masks, boxes)
    early = max_box_acc.THRESHOLDS < 0.499
    # The largest contour is first the one image's object, then the other's.
    np.testing.assert_array_equal(evaluator.accuracies()["largest"], np.full((3, 1000), 0.5))
    for shares in evaluator.accuracies()["all"]:
        np.testing.assert_array_equal(shares, np.where(early, 1, 0.5))
    assert evaluator.compute() == {"MaxBoxAcc": 0.5, "MaxBoxAccV2": 1.0}


def test_localization_errors_by_hand():
    # A pixel longer each, the true box has 4 x 5 = 20 of the predicted one's 8 x 5 = 40 pixels.
    mask = np.zeros((12, 12))
    mask[1:5, 1:8] = 1
    evaluator = accumulated(MaxBoxAcc(), [mask], [[[1, 1, 4, 5]]])
    assert evaluator.accuracies()["largest"][:, 0].tolist() == [1, 1, 0]
    np.testing.assert_array_equal(evaluator.localization_errors(), np.zeros(1000))
    # From t = 0.499 on only the left part is predicted, and the object is the right part.
    mask[1:5, 4:8] = 0.5
    evaluator = accumulated(MaxBoxAcc(), [mask], [[[4, 1, 8, 5]]])
    late = max_box_acc.THRESHOLDS >= 0.499
    np.testing.assert_array_equal(evaluator.localization_errors(), late)


def test_predicted_boxes_end_where_the_mask_does():
    # The whole mask but for a pixel: 5 x 5. The true box is a pixel longer: 6 x 6.
    mask = np.ones((5, 5))
    mask[2, 2] = 0
    shares = accumulated(MaxBoxAcc(), [mask], [[[0, 0, 5, 5]]]).accuracies()
    assert shares["largest"][:, 0].tolist() == [1, 1, 25 / 36 >= 0.7]


def test_a_constant_mask_has_no_box_and_ranks_nothing():
    masks = np.full((1, 6, 8), 0.5)
    assert accumulated(MaxBoxAcc(), masks, [IMAGE_BOX]).compute() == {
        "MaxBoxAcc": 0,
        "MaxBoxAccV2": 0,
    }
    truth = np.zeros((1, 6, 8))
    truth[0, :3, :4] = 1
    evaluator = accumulated(PxAP(), masks, truth)
    assert evaluator.compute() == {"PxAP": 0.25}
    precision, recall = evaluator.precision_recall()
    assert precision[:-1].tolist() == [1] * 1000 and recall[:-1].tolist() == [0] * 1000
    assert np.stack(evaluator.curve()).tolist() == [[1], [0.25]]  # recall and precision, one point
    assert accumulated(PointingGame(), masks, [[[0, 0, 4, 3]]]).compute() == {"pointing_game": 0.25}


@fuzz(20, mask=small_masks, boxes=small_boxes)
def test_all_contours_are_the_components_and_the_holes(mask, boxes):
    levels = (255 * min_max(mask)).astype(np.uint8)
    shares = accumulated(MaxBoxAcc(), [mask], [boxes]).accuracies()["all"]
    for number, threshold in enumerate(max_box_acc.THRESHOLDS):
        above = levels > int(255 * threshold)
        best = max((plain_iou(a, b) for a in outlined(above) for b in boxes), default=0)
        assert shares[:, number].tolist() == [best >= iou for iou in (0.3, 0.5, 0.7)]


@fuzz(20, mask=small_masks, boxes=small_boxes)
def test_the_largest_contour_is_that_of_every_threshold_alone(mask, boxes):
    levels = (255 * min_max(mask)).astype(np.uint8)
    shares = accumulated(MaxBoxAcc(), [mask], [boxes]).accuracies()["largest"]
    for number, threshold in enumerate(max_box_acc.THRESHOLDS):
        above = (levels > int(255 * threshold)).astype(np.uint8)
        contours, _ = cv2.findContours(above, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
        best = 0
        if contours:
            points = max(contours, key=cv2.contourArea)[:, 0]
            best = max(plain_iou([*points.min(axis=0), *points.max(axis=0) + 1], b) for b in boxes)
        assert shares[:, number].tolist() == [best >= iou for iou in (0.3, 0.5, 0.7)]


def outlined(above):
    """Half-open boxes round 8-connected components, and round the rims of 4-connected holes."""
    parts, _ = scipy.ndimage.label(above, np.ones((3, 3)))
    for rows, columns in scipy.ndimage.find_objects(parts):
        yield columns.start, rows.start, columns.stop, rows.stop
    gaps, _ = scipy.ndimage.label(np.pad(~above, 1, constant_values=True))
    for rows, columns in scipy.ndimage.find_objects(gaps):
        if rows.start:  # The first is what surrounds the mask.
            yield columns.start - 2, rows.start - 2, columns.stop, rows.stop


def plain_iou(predicted, true):
    """The share of common pixels, counted, of boxes as the benchmark draws them."""
    canvas = np.zeros((2, 10, 12), bool)
    for layer, (x0, y0, x1, y1) in zip(canvas, (predicted, true), strict=True):
        layer[y0 : y1 + 1, x0 : x1 + 1] = True
    canvas[0, 6:], canvas[0, :, 8:] = False, False
    return canvas.all(axis=0).sum() / canvas.any(axis=0).sum()


def test_pxap_by_hand():
    # At 1: one of two; at 0.5: two of three, all found; at 0: nothing new.
    evaluator = accumulated(PxAP(), [[[1.0, 1.0, 0.5, 0.0]]], [[[1, 0, 1, 0]]])
    assert evaluator.compute()["PxAP"] == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 3)
    precision, recall = evaluator.precision_recall()
    assert (precision[0], recall[0], precision[-1], recall[-1]) == (1 / 2, 1 / 2, 1 / 2, 1)
    assert (precision[500], recall[500], recall[499]) == (2 / 3, 1, 1 / 2)
    recall, precision = evaluator.curve()  # without the threshold 0, which takes everything
    assert set(zip(recall, precision, strict=True)) == {(1 / 2, 1 / 2), (1, 2 / 3)}


def test_the_curve_of_pixels_begins_where_a_pixel_is():
    # Of two images the first has no pixel above 0: half of the second's reach 1, none is right.
    masks, truths = [[[0.5, 0.5]], [[1.0, 0.2]]], [[[1, 0]], [[0, 1]]]
    assert set(zip(*accumulated(PxAP(), masks, truths).curve(), strict=True)) == {(0, 0)}


def test_pxap_of_perfect_masks_is_not_above_1():
    # The sum of rounded shares may be. (Below 1 where two values share the lowest threshold.)
    for seed in range(400):
        masks = np.random.default_rng(seed).random((1, 6, 12))
        found = accumulated(PxAP(), masks, masks > masks.min()).compute()["PxAP"]
        assert 0.99 <= found <= 1


@hypothesis.given(mask=small_masks, truth=truths)
def test_pxap_is_average_precision(mask, truth):
    hypothesis.assume(truth.any())
    edges = np.append(max_box_acc.THRESHOLDS, 1.0)
    scores = np.searchsorted(edges, min_max(mask), side="right")
    expected = sklearn.metrics.average_precision_score(truth.ravel(), scores.ravel())
    assert accumulated(PxAP(), [mask], [truth]).compute()["PxAP"] == pytest.approx(expected)


@pytest.mark.parametrize("towards", [0, 1])
def test_pxap_takes_every_pixel_to_its_threshold(towards):
    # Each edge, or the number next to it, alone against a pixel of 1: what counts is whether a
    # true pixel at the edge is found at that threshold.
    edges = np.append(max_box_acc.THRESHOLDS, 1.0)
    scores = np.nextafter(edges[1:-1], towards)
    mask = np.concatenate([[0, 1], scores])[None]
    _, recall = accumulated(PxAP(), [mask], [np.arange(1001)[None] > 1]).precision_recall()
    reached = [(scores >= edge).mean() for edge in edges[::-1]]
    np.testing.assert_array_equal(recall, reached)


def test_pointing_game_by_hand():
    masks = np.zeros((3, 6, 8))
    masks[0, 2, 3] = 1  # in the second box
    masks[1, 2, 3] = 1  # in the column after the box, a pixel off its last
    masks[2, 2, 3:7] = 0.5  # one of four maxima
    boxes = [[[0, 0, 1, 1], [3, 2, 4, 3]], [[0, 0, 3, 6]], [[0, 0, 4, 6]]]
    found = [accumulated(PointingGame(t), masks, boxes).compute() for t in (0, 1, 2)]
    assert found == [{"pointing_game": pytest.approx(x / 3)} for x in (1.25, 2.5, 2.75)]
    # From the corner of a box the distance is that of Pythagoras: 5 for 3 and 4.
    corner = np.eye(1, 48, 3 * 8 + 4).reshape(1, 6, 8)
    for tolerance, hit in ((4.9, 0), (5, 1)):
        game = accumulated(PointingGame(tolerance), corner, [[[0, 0, 1, 1]]])
        assert game.compute() == {"pointing_game": hit}


@pytest.mark.parametrize("evaluator, second", [(MaxBoxAcc, "boxes"), (PxAP, "truth")])
@hypothesis.given(masks=arrays(np.float32, (5, 6, 8), elements=st.floats(0, 1, width=32)))
def test_the_batches_do_not_matter(evaluator, second, masks):
    other = [IMAGE_BOX] * 5 if second == "boxes" else masks > 0.5
    hypothesis.assume((masks > 0.5).any())
    streamed = evaluator()
    for first, last in ((0, 2), (2, 2), (2, 5)):
        streamed.accumulate(masks[first:last], other[first:last])
    assert streamed.compute() == accumulated(evaluator(), masks, other).compute()


@pytest.mark.parametrize("evaluator", [MaxBoxAcc, PxAP, PointingGame])
@pytest.mark.parametrize(
    "masks, message",
    [
        (np.full((1, 6, 8), np.nan), r"in \[0, 1\]; found nan to nan"),
        (np.full((1, 6, 8), 255), r"in \[0, 1\]; found 255 to 255"),
        (np.ones((6, 8)), r"found shape \[6, 8\]"),
        (np.ones((1, 6, 8, 1)), r"found shape \[1, 6, 8, 1\]"),
        (np.ones((1, 0, 8)), r"found shape \[1, 0, 8\]"),
    ],
)
def test_an_unfit_mask_is_refused(evaluator, masks, message):
    with pytest.raises(ValueError, match=message):
        evaluator().accumulate(masks, np.ones((1, 6, 8)) if evaluator is PxAP else [IMAGE_BOX])


@pytest.mark.parametrize("evaluator", [MaxBoxAcc, PointingGame])
def test_an_image_without_boxes_is_refused(evaluator):
    with pytest.raises(ValueError, match=r"N of at least 1; found int64 \[0, 4\]"):
        evaluator().accumulate(np.ones((1, 6, 8)), [np.zeros((0, 4), int)])
    with pytest.raises(ValueError, match=r"found shape \[1, 6, 8\] and boxes for 2"):
        evaluator().accumulate(np.ones((1, 6, 8)), [IMAGE_BOX, IMAGE_BOX])


def test_unfit_true_masks_are_refused():
    masks = np.ones((1, 6, 8))
    with pytest.raises(ValueError, match=r"\[1, 6, 8\] like the masks; found \[1, 8, 6\]"):
        PxAP().accumulate(masks, np.ones((1, 8, 6)))
    with pytest.raises(ValueError, match=r"are 0 or 1; found 0\.5 to 0\.5"):
        PxAP().accumulate(masks, masks / 2)
    with pytest.raises(ValueError, match="PxAP has seen no pixel of an object"):
        accumulated(PxAP(), masks, 0 * masks).compute()


def test_nothing_seen_and_a_negative_tolerance_are_errors():
    for evaluator in (MaxBoxAcc, PointingGame):
        with pytest.raises(ValueError, match=f"{evaluator.__name__} has seen no mask"):
            evaluator().compute()
    with pytest.raises(ValueError, match="at least 0 pixels; found -1"):
        PointingGame(tolerance=-1)
