"""The measures of salient-object detection: by hand, and as PySODMetrics gives them."""

import json
import pathlib

import numpy as np
import pytest
import salient_scenes

from casm_tf.evaluation import SalientObject

ANSWERS = pathlib.Path(__file__).parent / "data" / "salient_answers.json"
BLOCK = np.zeros((4, 4), bool)
BLOCK[1:3, 1:3] = True  # a quarter of the picture, the object of most cases


def found(mask, truth):
    evaluator = SalientObject()
    evaluator.accumulate(np.asarray(mask, np.float32)[None], np.asarray(truth)[None])
    return evaluator.compute()


def curve(threshold_0, others):
    """The mean of 256 thresholds of a mask of zeros and ones: only 0 takes more than the ones."""
    return (threshold_0 + 255 * others) / 256


# E's sum over pixels is divided by one pixel less than there are, as in the original code.
CASES = {
    "perfect": (
        BLOCK,
        BLOCK,
        # Without a pixel that differs every term is 1, and 1/4 where all is taken for salient.
        {"MAE": 0, "maxF": 1, "S": 1, "E": curve(16 / 4, 16) / 15, "IoU": 1, "pixel_accuracy": 1},
    ),
    "inverted": (
        ~BLOCK,
        BLOCK,
        # Of objects 0, of regions 9/16 (-40/41) + 7/16 < 0, which counts 0. E: phi of the block is
        # 2 (-3/4) (3/4) / (9/16 + 9/16) = -1, that of the rest as well.
        {
            "MAE": 1,
            "maxF": 1.3 * 0.25 / (0.3 * 0.25 + 1),  # all is salient: P 1/4, R 1
            "S": 0,
            "E": curve(16 / 4, 0) / 15,
            "IoU": 0,
            "pixel_accuracy": 0,
        },
    ),
    "nothing": (
        np.zeros((4, 4)),
        BLOCK,
        # S: of objects 3/4 (the ground is right), of regions 7/16 (three of the four quarters are).
        {
            "MAE": 0.25,
            "maxF": 1.3 * 0.25 / (0.3 * 0.25 + 1),
            "S": (3 / 4 + 7 / 16) / 2,
            "E": 4 / 15,
            "IoU": 0,
            "pixel_accuracy": 0.75,
        },
    ),
    "everything": (
        np.ones((4, 4)),
        BLOCK,
        # S: of objects 1/4, of regions 7/16 again: a quarter that is level in both masks counts 1.
        {
            "MAE": 0.75,
            "maxF": 1.3 * 0.25 / (0.3 * 0.25 + 1),
            "S": (1 / 4 + 7 / 16) / 2,
            "E": 4 / 15,
            "IoU": 0.25,
            "pixel_accuracy": 0.25,
        },
    ),
    "grey": (
        [[1.0, 0.5], [0.0, 0.25]],
        [[1, 0], [0, 1]],
        # The best threshold is 1: P 1, R 1/2. More than 1/2 is one pixel of two.
        {"MAE": 1.25 / 4, "maxF": 1.3 / 2 / (0.3 + 0.5), "IoU": 1 / 2, "pixel_accuracy": 3 / 4},
    ),
    "no object": (
        np.zeros((4, 4)),
        np.zeros((4, 4)),
        {"MAE": 0, "maxF": 0, "S": 1, "E": curve(0, 16) / 15, "IoU": 0, "pixel_accuracy": 1},
    ),
    "no ground": (
        np.ones((4, 4)),
        np.ones((4, 4)),
        {"MAE": 0, "maxF": 1, "S": 1, "E": 16 / 15, "IoU": 1, "pixel_accuracy": 1},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_by_hand(case):
    mask, truth, expected = CASES[case]
    results = found(mask, truth)
    assert list(results) == ["MAE", "maxF", "S", "E", "IoU", "pixel_accuracy"]
    expected = {key: min(1, value) for key, value in expected.items()}
    assert {key: results[key] for key in expected} == pytest.approx(expected, abs=1e-12)


def test_masks_are_stretched_but_for_iou_and_accuracy():
    faint = found(0.2 + 0.2 * BLOCK, BLOCK)
    perfect = found(BLOCK, BLOCK)
    same = {"MAE", "maxF", "S", "E"}
    assert {key: faint[key] for key in same} == pytest.approx({key: perfect[key] for key in same})
    assert (faint["IoU"], faint["pixel_accuracy"]) == (0, 0.75)
    assert found(np.full((4, 4), 0.5), BLOCK)["MAE"] == 0.5  # a constant mask stays as it is


def test_the_maximal_f_is_of_the_mean_curve():
    """Two pictures, each with a threshold of its own where F is 1: no threshold is it for both."""
    masks = np.array([[[1, 0.6, 0.6, 0]], [[1, 0.6, 0.4, 0]]])
    truths = np.array([[[1, 1, 1, 0]], [[1, 0, 0, 0]]])
    evaluator = SalientObject()
    evaluator.accumulate(masks, truths)
    # At 1: P 1, R 1/3 and 1; at 0.6: 1 and P 1/2, R 1.
    expected = max(1.3 / 3 / (0.3 + 1 / 3) + 1, 1 + 1.3 / 2 / (0.15 + 1)) / 2
    assert evaluator.compute()["maxF"] == pytest.approx(expected)


def test_as_pysodmetrics():
    answers = json.loads(ANSWERS.read_text())
    evaluator = SalientObject()
    for mask, truth in salient_scenes.scenes():
        evaluator.accumulate(mask[None] / 255, truth[None])
    results = evaluator.compute()
    assert {key: results[key] for key in answers} == pytest.approx(answers, rel=0, abs=1e-12)


def test_an_object_at_the_rim_has_a_structure():
    """Of a quarter without a pixel PySODMetrics 1.6.2 takes the mean, and S is no number."""
    rim = np.zeros((4, 4), bool)
    rim[:, 3] = True
    assert found(rim, rim)["S"] == pytest.approx(1)


def test_batches_do_not_matter():
    masks, truths = (np.stack(some) for some in zip(*salient_scenes.scenes(), strict=True))
    whole, parts = SalientObject(), SalientObject()
    whole.accumulate(masks / 255, truths)
    for start, stop in ((0, 1), (1, 1), (1, len(masks))):
        parts.accumulate(masks[start:stop] / 255, truths[start:stop])
    assert parts.compute() == pytest.approx(whole.compute(), rel=1e-12)


def test_what_is_refused():
    evaluator = SalientObject()
    with pytest.raises(ValueError, match="SalientObject has seen no mask"):
        evaluator.compute()
    with pytest.raises(ValueError, match=r"true masks are \[1, 4, 4\] like the masks; found \["):
        evaluator.accumulate(np.zeros((1, 4, 4)), np.zeros((1, 4, 3)))
    with pytest.raises(ValueError, match="true masks are 0 or 1; found 0 to 255"):
        evaluator.accumulate(np.zeros((1, 4, 4)), 255 * BLOCK[None])
