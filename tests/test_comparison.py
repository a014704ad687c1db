"""What an evaluation keeps beside the scores: how large the objects are, what is shown of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from casm_tf.data.datasets import Dataset
from casm_tf.evaluation.comparison import Comparison, Method
from casm_tf.evaluation.localization import share_in_boxes
from casm_tf.serving.mask_model import MaskModel

DATASET = Dataset(None, 8, ("cat", "dog"), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def model():
    """A dog is what is light; the mask is of 0.5 everywhere."""
    images = keras.Input((8, 8, 3))
    light = keras.ops.mean(images, axis=(1, 2))[:, :1]
    outputs = {"logits": keras.ops.concatenate([-light, light], axis=1)}
    return keras.Model(images, {**outputs, "mask": keras.ops.ones_like(images[..., :1]) / 2})


def batch(labels, boxes, light=1.0):
    """Pictures, all the same, with at most two boxes each."""
    padded = np.zeros((len(boxes), 2, 4), np.int64)
    for row, some in zip(padded, boxes, strict=True):
        row[: len(some)] = np.reshape(some, (-1, 4))
    return {
        "images": tf.fill((len(boxes), 8, 8, 3), light),
        "labels": tf.constant(labels),
        "boxes": tf.constant(padded),
        "box_counts": tf.constant([len(some) for some in boxes]),
    }


def compared(*batches):
    both = model()
    methods = {name: Method.of_model(both) for name in ("casm", "grad_cam", "other")}
    comparison = Comparison(DATASET, methods, both, both, {})
    for some in batches:
        comparison.accumulate(some)
    return comparison


def test_a_share_in_boxes_counts_what_lies_in_two_once_and_what_is_outside_not_at_all():
    assert share_in_boxes(np.array([[0, 0, 4, 8], [2, 0, 6, 8]]), (8, 8)) == 0.75
    assert share_in_boxes(np.array([[-5, -5, 4, 2], [-9, 3, -1, 5]]), (8, 8)) == 8 / 64
    assert share_in_boxes(np.zeros((0, 4), int), (8, 8)) == 0


@pytest.mark.parametrize("size", [224, 64])
def test_the_shipped_model_gets_the_pixels_that_were_normalised(size):
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    method = Method.pretrained(size, DATASET.mean, DATASET.std)
    found = method.masks(DATASET.normalise(pixels).numpy(), None)
    expected = [mask.mask for mask in MaskModel.load(image_size=size)(list(pixels))]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_shipped_model_says_what_sizes_it_takes():
    with pytest.raises(ValueError, match="a multiple of 32 pixels; found 40"):
        Method.pretrained(40, DATASET.mean, DATASET.std)


@pytest.mark.usefixtures("eagerly")
def test_how_large_the_true_boxes_are_is_among_the_scores():
    half, quarter, none = [[0, 0, 8, 4]], [[0, 0, 4, 4]], []
    comparison = compared(batch([0, 0], [half, none]), batch([0, 0], [quarter, [*quarter, *half]]))
    results = comparison.compute()
    assert results["casm"]["true_box_area"] == 0.5
    assert "true_box_area" not in results["other"]
    assert "true_box_area" not in compared(batch([0], [none])).compute()["casm"]


def of_box(box):
    """A `Method` whose mask is of ones in a box, the same for every picture."""
    x0, y0, x1, y1 = box
    mask = np.zeros((8, 8), np.float32)
    mask[y0:y1, x0:x1] = 1
    return Method(lambda images, _: np.stack([mask] * len(images)), 0)


@pytest.mark.usefixtures("eagerly")
def test_few_pictures_have_standard_errors_and_differences_are_of_pairs():
    both, half, whole = model(), [[0, 0, 4, 8]], [[0, 0, 8, 8]]
    methods = {"casm": of_box(*half), "other": of_box(*whole)}
    comparison = Comparison(DATASET, methods, both, both, {})
    comparison.accumulate(batch([1, 0, 1], [half, whole, half]))
    comparison.accumulate(batch([1], [[]]))
    casm, other = comparison.compute().values()
    # Misses are 0, 1, 0 and 1, 0, 1: of each a variance of 1/3, of the differences one of 4/3.
    assert (casm["LE"], other["LE"]) == (1 / 3, 2 / 3)
    errors = casm["standard_error"], other["standard_error"], other["standard_error_of_difference"]
    assert [found["LE"] for found in errors] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    # Right are 1, 0, 1, 1, before the alternation too, and with every method.
    assert [found["top1"] for found in errors] == [1 / 4, 1 / 4, 0]
    assert casm["standard_error"]["top1_before"] == 1 / 4
    assert "standard_error_of_difference" not in casm
    assert errors[0].keys() - errors[2].keys() == {"top1_before"}
    assert {"F1", "OM", "LE_mean_rule", "saliency_metric", "mask_mean"} < errors[2].keys()
    assert {"MaxBoxAcc", "MaxBoxAccV2", "mask_std"} < casm.keys() - errors[0].keys()


@pytest.mark.usefixtures("eagerly")
def test_neither_one_picture_nor_a_hundred_have_standard_errors():
    box = [[0, 0, 4, 4]]
    (casm, *_) = compared(batch([1], [box])).compute().values()
    assert casm["standard_error"] == {}
    (casm, *_) = compared(batch([1] * 99, [box] * 99)).compute().values()
    assert casm["standard_error"]["top1"] == 0
    (casm, *_) = (
        compared(batch([1] * 60, [box] * 60), batch([1] * 40, [box] * 40)).compute().values()
    )
    assert "standard_error" not in casm


@pytest.mark.usefixtures("eagerly")
def test_pictures_are_shown_by_their_classes_with_the_maps_that_are_compared():
    box = [[0, 0, 4, 4]]
    comparison = compared(batch([1, 0, -1], [box, [], box]), batch([1], [box]))
    captions = ["dog, classified right", "cat, classified as dog", "classified as dog"]
    assert comparison.first["captions"] == captions
    assert list(comparison.first["masks"]) == ["casm", "grad_cam"]  # not "other"
    assert [len(part) for part in comparison.first["masks"].values()] == [3, 3]
    assert [len(boxes) for boxes in comparison.first["boxes"]] == [1, 0, 1]
    # Of the examples each has a box.
    found = [example.caption for example in comparison.examples]
    assert sorted(found) == sorted([captions[0], captions[2], captions[0]])
    assert len(compared(batch([1] * 9, [box] * 9)).first["images"]) == 7


@pytest.mark.usefixtures("eagerly")
def test_without_labels_nobody_was_right_before():
    # The targets are then what the classifier said before the alternation: it would agree with
    # itself. Of some labels these alone count.
    box = [[0, 0, 4, 4]]
    assert "top1_before" not in compared(batch([-1, -1], [box, box])).compute()["casm"]
    assert compared(batch([-1, 0, 1, 1], [box] * 4)).compute()["casm"]["top1_before"] == 2 / 3
