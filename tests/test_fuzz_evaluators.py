"""Evaluators, from any mask to a number: empty batches, one pixel, one class, all ties, NaN."""

import math

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from fuzz_masks import IN_RANGE, box_lists, masks_of, scenes, turned
from fuzzing import fuzz
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from casm_tf import objectives
from casm_tf.evaluation import (
    THRESHOLDS,
    Accuracy,
    InsertionDeletion,
    LocalizationEvaluator,
    MaskStatistics,
    MaxBoxAcc,
    PointingGame,
    PxAP,
    SaliencyMetric,
    SalientObject,
)
from casm_tf.evaluation.localization import continuous_f1, iou, min_max, predict_box

EVALUATORS = {
    "localization": (LocalizationEvaluator, ("masks", "boxes", "correct")),
    "mean rule": (lambda: LocalizationEvaluator("mean", 0.7), ("masks", "boxes", "correct")),
    "statistics": (MaskStatistics, ("masks",)),
    "MaxBoxAcc": (MaxBoxAcc, ("masks", "boxes")),
    "pointing game": (PointingGame, ("masks", "boxes")),
    "tolerant": (lambda: PointingGame(2.5), ("masks", "boxes")),
    "PxAP": (PxAP, ("masks", "truths")),
    "salient object": (SalientObject, ("masks", "truths")),
    "saliency metric": (SaliencyMetric, ("shares", "first")),
    "insertion": (InsertionDeletion, ("curves", "fading")),
    "accuracy": (Accuracy, ("labels", "classes")),
}
evaluators = st.sampled_from(list(EVALUATORS))


def accumulated(name, *scenes):
    """The evaluator of that name, having seen each of the scenes as a batch."""
    evaluator, keys = EVALUATORS[name][0](), EVALUATORS[name][1]
    for scene in scenes:
        give(evaluator, keys, scene)
    return evaluator


def give(evaluator, keys, scene):
    arguments = [scene[key] for key in keys]
    if isinstance(evaluator, Accuracy):
        evaluator.accumulate(arguments[0], clean=arguments[1], masked_in=scene["judged"])
    else:
        evaluator.accumulate(*arguments)


def part(scene, images):
    """The scene of some of the images; `images` are their numbers."""
    return {
        key: [value[i] for i in images] if isinstance(value, list) else value[images]
        for key, value in scene.items()
    }


def computed(evaluator):
    """What it computes; None where it has seen nothing that counts."""
    try:
        results = evaluator.compute()
    except ValueError as error:
        assert "has seen no" in str(error)
        return None
    assert all(type(value) is float and math.isfinite(value) for value in results.values())
    return results


@fuzz(150, name=evaluators, scene=scenes(least=0), data=st.data())
def test_neither_batches_nor_the_order_of_images_matter(name, scene, data):
    count = len(scene["masks"])
    expected = computed(accumulated(name, scene))
    order = np.array(data.draw(st.permutations(range(count))), int)
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, count)] * 2)))
    parts = [part(scene, order[a:b]) for a, b in ((0, first), (first, last), (last, count))]
    found = computed(accumulated(name, part(scene, []), *parts))
    assert found == (expected and pytest.approx(expected, rel=1e-9, abs=1e-12))
    assert expected is not None or count == 0 or name == "PxAP"


@fuzz(100, name=evaluators, scene=scenes(least=1))
def test_measures_are_in_their_ranges(name, scene):
    results = computed(accumulated(name, scene)) or {}
    for key, value in results.items():
        if key == "saliency_metric":
            assert math.log(0.05) <= value <= 126 * math.log(2) + 1e-9
        else:
            assert 0 <= value <= (2 if key == "mask_tv" else 1), key
    # What is seen twice is as it was seen once; only the deviation has the number of images in it.
    twice = computed(accumulated(name, scene, scene)) or {}
    results.pop("mask_std", None), twice.pop("mask_std", None)
    assert twice == pytest.approx(results, rel=1e-9, abs=1e-12)


WRONG = {
    "masks": [np.nan, np.inf, -np.inf, -0.25, 1.25],
    "shares": [np.nan, np.inf, -0.25, 1.25],
    "first": [np.nan, -0.25, 1.25],
    "curves": [np.nan, -0.25, 1.25],
    "fading": [np.nan, -0.25, 1.25],
    "truths": [2],
}


@fuzz(150, name=evaluators, scene=scenes(least=1), data=st.data())
def test_what_is_refused_leaves_no_trace(name, scene, data):
    evaluator = accumulated(name, scene)
    before, keys = computed(evaluator), EVALUATORS[name][1]
    broken = dict(scene)
    key = data.draw(st.sampled_from([key for key in keys if key != "correct"]))
    if key in WRONG:
        # One number of the last image, so that a mean does not give it away.
        values = np.array(scene[key], np.float64)
        values.reshape(len(values), -1)[-1, -1] = data.draw(st.sampled_from(WRONG[key]))
        broken[key] = values
    elif key == "boxes":
        broken[key] = [*scene["boxes"][:-1], np.zeros((0, 4), int)]
    else:
        broken["judged"] = scene["judged"][:-1]
    with pytest.raises(ValueError, match="found"):
        give(evaluator, keys, broken)
    assert computed(evaluator) == before


@fuzz(60, scene=scenes(least=1))
def test_localization_is_that_of_single_images(scene):
    found = computed(accumulated("localization", scene))
    hits, f1 = [], []
    for mask, boxes in zip(scene["masks"], scene["boxes"], strict=True):
        predicted = predict_box(mask)
        hits.append(bool(predicted) and max(iou(predicted, box) for box in boxes.tolist()) > 0.5)
        f1.append(max(continuous_f1(mask, box) for box in boxes.tolist()))
    right = np.array(hits) & scene["correct"]
    expected = {"LE": 1 - np.mean(hits), "F1": np.mean(f1), "OM": 1 - np.mean(right)}
    assert found == pytest.approx(expected)
    assert found["OM"] >= found["LE"]


@fuzz(60, mask=masks_of(st.just(1)))
def test_half_an_overlap_is_a_miss_and_a_pixel_more_a_hit(mask):
    predicted = predict_box(mask[0])
    hypothesis.assume(predicted is not None)
    x0, y0, x1, y1 = predicted
    for end, error in ((2 * x1 - x0, 1), (2 * x1 - x0 - 1, 0)):
        evaluator = LocalizationEvaluator()
        evaluator.accumulate(mask, [[[x0, y0, end, y1]]])
        assert evaluator.compute()["LE"] == error


@fuzz(60, scene=scenes(least=1), data=st.data())
def test_more_true_boxes_are_never_worse(scene, data):
    more = dict(scene)
    more["boxes"] = [
        np.concatenate([boxes.astype(int), data.draw(box_lists())]) for boxes in scene["boxes"]
    ]
    for name in ("localization", "MaxBoxAcc", "pointing game", "tolerant"):
        few, many = (computed(accumulated(name, each)) for each in (scene, more))
        for key, value in few.items():
            better = value - many[key] if key in ("LE", "OM") else many[key] - value
            assert better >= -1e-12


@fuzz(60, scene=scenes(least=1), turn=st.sampled_from(["rows", "columns", "transposed"]))
def test_turned_scenes_score_the_same(scene, turn):
    other = turned(scene, turn)
    for name in ("statistics", "pointing game", "tolerant", "PxAP"):
        found, expected = (computed(accumulated(name, each)) for each in (other, scene))
        assert found == (expected and pytest.approx(expected, rel=1e-9, abs=1e-12))
    found, expected = (computed(accumulated("localization", each)) for each in (other, scene))
    assert found["F1"] == pytest.approx(expected["F1"])
    if turn == "transposed":  # Its boxes are a pixel longer to the right and below.
        found, expected = (accumulated("MaxBoxAcc", each).accuracies() for each in (other, scene))
        np.testing.assert_array_equal(found["all"], expected["all"])


@fuzz(60, masks=masks_of(st.integers(0, 3)))
def test_statistics_are_those_of_the_objectives(masks):
    evaluator = MaskStatistics()
    evaluator.accumulate(masks)
    found = computed(evaluator)
    if not len(masks):
        assert found is None
        return
    terms = {
        "mask_mean": objectives.mean_mask,
        "mask_entropy": objectives.mask_entropy,
        "mask_tv": objectives.total_variation,
    }
    for key, term in terms.items():
        expected = float(np.mean(term(tf.constant(masks[..., None]))))
        assert found[key] == pytest.approx(expected, rel=1e-5, abs=1e-7)
    means = masks.mean(axis=(1, 2), dtype=np.float64)
    assert found["mask_std"] == pytest.approx(means.std(ddof=1) if len(means) > 1 else 0, abs=1e-9)


@fuzz(40, scene=scenes(least=1))
def test_max_box_acc_of_a_smaller_iou_and_of_all_contours_is_no_worse(scene):
    shares = accumulated("MaxBoxAcc", scene).accuracies()
    assert np.all(shares["largest"] <= shares["all"])
    for by in shares.values():
        assert np.all(np.diff(by, axis=0) <= 0) and np.all((by >= 0) & (by <= 1))
    # By halves nothing is rounded, and each mask is stretched to its own range.
    halved = accumulated("MaxBoxAcc", {**scene, "masks": np.float64(scene["masks"]) / 2})
    for by, expected in shares.items():
        np.testing.assert_array_equal(halved.accuracies()[by], expected)


rows = arrays(np.float32, st.integers(1, 8), elements=IN_RANGE)


@fuzz(60, row=rows, boxes=box_lists().map(lambda boxes: boxes * [1, 0, 1, 0]))
def test_max_box_acc_of_a_mask_of_one_row(row, boxes):
    evaluator = MaxBoxAcc()
    evaluator.accumulate([row[None]], [boxes])
    levels = (255 * min_max(row)).astype(int)
    width = len(row)
    expected = np.zeros((3, 1000))
    for number, threshold in enumerate(THRESHOLDS):
        above = levels > int(255 * threshold)
        # The runs of pixels above: from, to.
        ends = np.flatnonzero(np.diff(above, prepend=False, append=False)).reshape(-1, 2)
        best = 0
        for first, last in ends.tolist():
            predicted = (first, 0, min(last + 1, width), 1)
            for x0, y0, x1, y1 in boxes.tolist():
                best = max(best, iou(predicted, (x0, y0, x1 + 1, y1 + 1)))
        expected[:, number] = best >= np.array([0.3, 0.5, 0.7])
    np.testing.assert_array_equal(evaluator.accuracies()["all"], expected)


@fuzz(40, scene=scenes(least=1), tolerance=st.sampled_from([0, 1, 1.5, 3]))
def test_the_pointing_game_pixel_by_pixel(scene, tolerance):
    evaluator = PointingGame(tolerance)
    evaluator.accumulate(scene["masks"], scene["boxes"])
    expected = []
    for mask, boxes in zip(scene["masks"], scene["boxes"], strict=True):
        shares = []
        for y, x in np.argwhere(mask == mask.max()).tolist():
            distances = [
                math.hypot(
                    max(x0 - x, 0, x - (x1 - 1)),
                    max(y0 - y, 0, y - (y1 - 1)),
                )
                for x0, y0, x1, y1 in boxes.tolist()
            ]
            shares.append(min(distances) <= tolerance)
        expected.append(np.mean(shares))
    found = computed(evaluator)["pointing_game"]
    assert found == pytest.approx(np.mean(expected))
    wider = PointingGame(tolerance + 1)
    wider.accumulate(scene["masks"], scene["boxes"])
    assert computed(wider)["pointing_game"] >= found


@fuzz(40, scene=scenes(least=1))
def test_pxap_by_its_definition(scene):
    hypothesis.assume(scene["truths"].any())
    scores = np.concatenate([min_max(mask).ravel() for mask in scene["masks"]])
    true = scene["truths"].ravel()
    area, recall = 0.0, 0.0
    for threshold in np.append(THRESHOLDS, 1.0)[::-1]:
        reached = scores >= threshold
        if reached.any():
            now = (reached & true).sum() / true.sum()
            area += (reached & true).sum() / reached.sum() * (now - recall)
            recall = now
    found = computed(accumulated("PxAP", scene))["PxAP"]
    assert found == pytest.approx(area)


@fuzz(40, truths=arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_pxap_of_the_truth_itself_is_1(truths):
    varied = truths[[truth.any() and not truth.all() for truth in truths]]
    hypothesis.assume(len(varied))
    evaluator = PxAP()
    evaluator.accumulate(varied, varied)
    assert computed(evaluator) == {"PxAP": pytest.approx(1, abs=1e-12)}


@fuzz(60, scene=scenes(least=0, classes=st.integers(1, 3)))
def test_accuracy_counts(scene):
    evaluator = accumulated("accuracy", scene)
    evaluator.accumulate([], masked_out=[])  # a view of no image
    found = computed(evaluator)
    if found is None:
        assert not len(scene["labels"])
        return
    clean, masked = (np.mean(scene[key] == scene["labels"]) for key in ("classes", "judged"))
    assert found == pytest.approx({"top1": clean, "top1_masked_in": masked})
