"""Evaluators and baselines: the original code's answers, cases worked out by hand, streaming."""

import json
import pathlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from casm_tf import objectives
from casm_tf.evaluation import (
    Accuracy,
    LocalizationEvaluator,
    MaskStatistics,
    means,
    method_scores,
)
from casm_tf.evaluation.baselines import centre_box, full_image

DATA = pathlib.Path(__file__).parent / "data"
GOLDEN = json.loads((DATA / "original_metrics.json").read_text())
BOXES = [case["boxes_in_crop"] for case in GOLDEN["cases"]]
with np.load(DATA / "original_metrics.npz") as golden:
    BYTES = golden["masks"]
MASKS = BYTES / np.float32(255)

unit = st.floats(0, 1, width=32)
eight_masks = arrays(np.float32, (8, 4, 5), elements=unit)
splits = st.lists(st.integers(0, 8), max_size=4).map(sorted)


def batches(images, split):
    """The images in batches that end where `split` says; some are empty."""
    return [images[a:b] for a, b in zip([0, *split], [*split, len(images)], strict=True)]


def statistics(*masks):
    """The MaskStatistics of some batches."""
    evaluator = MaskStatistics()
    for batch in masks:
        evaluator.accumulate(batch)
    return evaluator.compute()


def test_localization_is_the_originals():
    evaluator = LocalizationEvaluator()
    evaluator.accumulate(MASKS, BOXES)
    expected = {key: GOLDEN["aggregate"][key] for key in ("LE", "F1")}
    assert evaluator.compute() == pytest.approx(expected, rel=0, abs=1e-6)


def test_mask_statistics_are_the_originals():
    expected = GOLDEN["aggregate"]["statistics"]
    found = statistics(MASKS)
    assert found["mask_mean"] == pytest.approx(expected["avg_mask"], rel=0, abs=1e-6)
    assert found["mask_entropy"] == pytest.approx(expected["entropy"], rel=0, abs=1e-6)
    assert found["mask_tv"] == pytest.approx(expected["tv"], rel=0, abs=1e-6)


def test_mask_std_is_the_originals_but_for_its_rounding():
    # The original adds up a mask's pixels one by one in float32, which alone moves its answer by
    # 4e-6. From means made in that way ours is the same; from the bytes themselves ours is right.
    original = GOLDEN["aggregate"]["statistics"]["std_mask"]
    sums = np.cumsum(MASKS.reshape(24, -1), axis=1, dtype=np.float32)[:, -1]
    means = sums / np.float32(224 * 224)
    rounded_alike = statistics(np.broadcast_to(means[:, None, None], (24, 2, 2)))
    assert rounded_alike["mask_std"] == pytest.approx(original, rel=0, abs=1e-6)

    exact = (BYTES.sum(axis=(1, 2), dtype=np.int64) / (255 * 224 * 224)).std(ddof=1)
    assert statistics(MASKS)["mask_std"] == pytest.approx(exact, rel=0, abs=1e-6)


def test_localization_by_hand():
    masks = np.zeros((4, 4, 4))
    masks[0, :2, :2] = 1  # IoU 4/8 is not above 0.5; F1 = 2 * 4 / (4 + 8).
    masks[1, :2, :2] = 1  # The second box is hit; its F1 is 1.
    masks[2, :2, :2] = 1  # Hit, but misclassified.
    boxes = [[[0, 0, 2, 4]], [[2, 2, 4, 4], [0, 0, 2, 2]], [[0, 0, 2, 2]], [[0, 0, 2, 2]]]
    evaluator = LocalizationEvaluator()
    evaluator.accumulate(masks, boxes, correct=[True, True, False, True])
    expected = {"LE": 2 / 4, "OM": 3 / 4, "F1": (2 / 3 + 1 + 1 + 0) / 4}
    assert evaluator.compute() == pytest.approx(expected)


def test_localization_passes_method_and_alpha_on():
    # Two pixels reach the mean of 3/8, for an IoU of 1/2; one reaches twice the mean.
    masks, boxes = [[[1.0, 0.5], [0.0, 0.0]]], [[[0, 0, 1, 1]]]
    for alpha, error in ((1.0, 1.0), (2.0, 0.0)):
        evaluator = LocalizationEvaluator(method="mean", alpha=alpha)
        evaluator.accumulate(masks, boxes)
        assert evaluator.compute()["LE"] == error


def test_mask_statistics_by_hand():
    masks = [[[1.0, 0.5], [0.25, 0.25]], [[0.0, 0.0], [0.0, 0.0]]]
    assert statistics(masks) == pytest.approx(
        {
            "mask_mean": 0.25,
            "mask_std": (2 * 0.25**2) ** 0.5,
            "mask_entropy": (0 + 0.5 * 1 + 2 * 0.25 * 2) / 4 / 2,
            "mask_tv": ((0.75**2 + 0.25**2) / 2 + (0.5**2 + 0) / 2) / 2,
        }
    )


def test_mask_statistics_of_a_single_pixel():
    expected = {"mask_mean": 0.5, "mask_std": 0, "mask_entropy": 0.5, "mask_tv": 0}
    assert statistics([[[0.5]]]) == expected


def test_accuracy_by_hand():
    evaluator = Accuracy()
    evaluator.accumulate([0, 1], clean=[0, 1], masked_out=[1, 0])
    evaluator.accumulate([2, 3], clean=[2, 0], masked_out=[2, 0])
    assert evaluator.compute() == {"top1": 3 / 4, "top1_masked_out": 1 / 4}


def test_a_standard_error_by_hand():
    # Of 0, 1, 1, 1 the squared deviations are 9/16 + 3 / 16; a third of them is 1/4.
    assert means.standard_error([0.0, 1.0, 1.0, 1.0]) == 1 / 4
    assert means.standard_error([0.25, 0.25]) == 0


def test_means_keep_what_the_first_images_have():
    of_images = means.Means()
    for start in range(0, 120, 40):
        of_images.add(a=np.arange(start, start + 40))
        of_images.add(b=True)
    assert of_images.compute() == {"a": 119 / 2, "b": 1}
    assert of_images.images == {"a": 120, "b": 3}
    assert of_images.first == {"a": list(range(100)), "b": [1, 1, 1]}


@hypothesis.given(masks=eight_masks, split=splits)
def test_mask_statistics_do_not_depend_on_the_batches(masks, split):
    found = statistics(*batches(masks, split))
    assert found == statistics(masks)
    expected = masks.mean(axis=(1, 2), dtype=np.float64).std(ddof=1)
    assert found["mask_std"] == pytest.approx(expected, abs=1e-12)


@hypothesis.given(
    masks=eight_masks, correct=arrays(bool, 8), corner=st.integers(1, 4), split=splits
)
def test_localization_does_not_depend_on_the_batches(masks, correct, corner, split):
    boxes = np.broadcast_to([[0, 0, corner, corner], [1, 1, 5, 4]], (8, 2, 4))
    together, streamed = LocalizationEvaluator(), LocalizationEvaluator()
    together.accumulate(masks, boxes, correct)
    for batch in zip(*(batches(each, split) for each in (masks, boxes, correct)), strict=True):
        streamed.accumulate(*batch)
    found = streamed.compute()
    assert found == together.compute()
    assert 0 <= found["F1"] <= 1 and 0 <= found["LE"] <= found["OM"] <= 1


@hypothesis.given(classes=arrays(int, (2, 8), elements=st.integers(0, 2)), split=splits)
def test_accuracy_does_not_depend_on_the_batches(classes, split):
    labels, predictions = classes
    evaluator = Accuracy()
    for batch in zip(batches(labels, split), batches(predictions, split), strict=True):
        evaluator.accumulate(batch[0], clean=batch[1])
    assert evaluator.compute() == {"top1": np.mean(labels == predictions)}


def test_centre_box_is_the_originals():
    mask = centre_box(224, 224)
    assert mask[33:-33, 33:-33].all() and mask.sum() == 158 * 158


def test_a_centre_box_has_the_share_of_each_side_that_is_asked_for():
    assert centre_box(4, 8, 0.5).tolist() == [[0] * 8, *[[0, 0, 1, 1, 1, 1, 0, 0]] * 2, [0] * 8]
    assert centre_box(3, 5, 1).all()


def test_baselines_are_boxes_to_the_evaluator():
    masks = [full_image(30, 40), centre_box(30, 40)]
    evaluator = LocalizationEvaluator()
    evaluator.accumulate(masks, [[[0, 0, 40, 30]], [[6, 4, 34, 26]]])
    assert evaluator.compute() == {"LE": 0, "F1": 1}


@hypothesis.given(
    arrays(np.float32, st.tuples(*[st.integers(1, 5)] * 3), elements=st.floats(0, 1, width=32))
)
def test_mask_statistics_are_what_training_watches(masks):
    found = statistics(masks)
    batch = masks[..., None].astype(np.float64)
    expected = {
        "mask_mean": objectives.mean_mask(batch),
        "mask_entropy": objectives.mask_entropy(batch),
        "mask_tv": objectives.total_variation(batch),
    }
    for name, values in expected.items():
        assert found[name] == pytest.approx(values.numpy().mean(), abs=1e-12), name


@pytest.mark.parametrize("evaluator", [Accuracy, LocalizationEvaluator, MaskStatistics])
def test_nothing_seen_is_an_error(evaluator):
    with pytest.raises(ValueError, match=f"{evaluator.__name__} has seen no"):
        evaluator().compute()


@pytest.mark.parametrize(
    "masks, boxes, correct, message",
    [
        (np.ones((1, 4, 4)), [[]], None, r"N of at least 1; found float64 \[0\]"),
        (np.ones((1, 4, 4)), [np.zeros((0, 4), int)], None, r"found int64 \[0, 4\]"),
        (np.ones((1, 4, 4)), [[[0.0, 0.0, 0.5, 0.5]]], None, r"integers .* found float64 \[1, 4\]"),
        (np.ones((1, 4, 4)), [], None, r"found shape \[1, 4, 4\] and boxes for 0"),
        (np.ones((1, 4, 4, 1)), [[[0, 0, 1, 1]]], None, r"found shape \[1, 4, 4, 1\]"),
        (np.ones((1, 4, 4)), [[[0, 0, 1, 1]]], [True, True], r"correct is \[1\].* shape \[2\]"),
        (np.full((1, 4, 4), np.nan), [[[0, 0, 1, 1]]], None, "found nan to nan"),
    ],
)
def test_localization_refuses_what_does_not_fit(masks, boxes, correct, message):
    with pytest.raises(ValueError, match=message):
        LocalizationEvaluator().accumulate(masks, boxes, correct)


def test_correct_is_given_for_every_batch_or_for_none():
    evaluator = LocalizationEvaluator()
    evaluator.accumulate(np.ones((1, 4, 4)), [[[0, 0, 1, 1]]], [True])
    evaluator.accumulate(np.ones((1, 4, 4)), [[[0, 0, 1, 1]]])
    with pytest.raises(ValueError, match="given for 1 of 2 images"):
        evaluator.compute()


@pytest.mark.parametrize(
    "masks", [np.ones((2, 2)), np.full((1, 2, 2), np.nan), [[[-0.5, 1.5]]], np.ones((1, 0, 2))]
)
def test_mask_statistics_refuse_what_does_not_fit(masks):
    with pytest.raises(ValueError, match="found"):
        MaskStatistics().accumulate(masks)


@pytest.mark.parametrize("evaluator", [MaskStatistics, LocalizationEvaluator])
def test_of_a_batch_that_is_refused_nothing_is_counted(evaluator):
    evaluator, box = evaluator(), [[0, 0, 1, 1]]
    boxes = [[box]] if isinstance(evaluator, LocalizationEvaluator) else []
    evaluator.accumulate(np.ones((1, 2, 2)), *boxes)
    before = evaluator.compute()
    with pytest.raises(ValueError, match="found nan to nan"):
        evaluator.accumulate([[[0.5]], [[np.nan]]], *(2 * some for some in boxes))
    assert evaluator.compute() == before


def test_accuracy_counts_nothing_of_a_batch_that_is_refused_or_empty():
    evaluator = Accuracy()
    evaluator.accumulate([], clean=[], masked_in=[])
    evaluator.accumulate([1], clean=[1])
    with pytest.raises(ValueError, match="masked_out is one class a label"):
        evaluator.accumulate([1, 1], clean=[0, 0], masked_out=[0])
    assert evaluator.compute() == {"top1": 1}


def test_accuracy_refuses_logits():
    with pytest.raises(ValueError, match=r"one class a label, \[2\]; found shape \[2, 3\]"):
        Accuracy().accumulate([0, 1], clean=np.zeros((2, 3)))


@pytest.mark.parametrize("is_there", [False, True])
def test_a_split_whose_true_masks_are_empty_has_no_measure_of_masks(is_there):
    truths = np.zeros((2, 4, 4), bool)
    truths[1, 0, 0] = is_there
    images, none = np.zeros((2, 4, 4, 3), np.float32), np.zeros((0, 4), np.int64)
    classes = np.zeros(2, int)
    batch = method_scores.Batch(
        *(images, classes, [none] * 2, truths, np.ones(2, bool)), classes, classes
    )

    def classify(images):
        return np.zeros((len(images), 3), np.float32)

    scores = method_scores.Scores(classify, classify)
    scores.accumulate(batch, np.full((2, 4, 4), 0.5, np.float32))
    of_masks = {"PxAP", "MAE", "maxF", "S", "E", "IoU", "pixel_accuracy"}
    assert of_masks & set(scores.compute()) == (of_masks if is_there else set())
