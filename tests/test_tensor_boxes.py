"""Boxes in a graph are those of localization.predict_box, divided by the mask's sides."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from casm_tf.evaluation import localization
from casm_tf.serving import tensor_boxes

predict_boxes = tf.function(
    tensor_boxes.predict_boxes, input_signature=[tf.TensorSpec((None, None, None), tf.float32)]
)
batches = arrays(
    np.float32,
    array_shapes(min_dims=3, max_dims=3, max_side=9),
    elements=st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.5, 1.0]),
)


def expected(mask):
    box = localization.predict_box(mask)
    height, width = np.shape(mask)
    return np.float32(box or (0, 0, 0, 0)) / np.float32([width, height, width, height])


@hypothesis.given(masks=batches)
def test_boxes_are_predict_boxs(masks):
    assert predict_boxes(masks).numpy().tolist() == [expected(mask).tolist() for mask in masks]


@hypothesis.given(masks=arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=9)))
def test_boxes_of_binary_masks_are_predict_boxs(masks):
    masks = masks.astype(np.float32)  # of many equally large components
    assert predict_boxes(masks).numpy().tolist() == [expected(mask).tolist() for mask in masks]


def test_smooth_masks_of_a_real_size():
    rng = np.random.default_rng(0)
    coarse = tf.image.resize(rng.random((8, 7, 7, 1)), (224, 224), "bicubic")[..., 0]
    masks = np.clip(coarse, 0, 1).astype(np.float32)
    found = predict_boxes(masks).numpy()
    assert found.tolist() == [expected(mask).tolist() for mask in masks]
    assert len({tuple(box) for box in found.tolist()}) > 4


def test_by_hand():
    # 3 pixels against 2; of the second mask nothing is left, as all ties with the threshold.
    masks = [[[1, 0, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], np.full((4, 4), 0.5)]
    found = predict_boxes(np.float32(masks)).numpy()
    assert found.tolist() == [[0, 0, 0.25, 0.75], [0, 0, 0, 0]]


def test_minus_0_is_0():
    mask = np.float32([[0.9, -0.0], [0.6, 0.5]])
    assert predict_boxes(mask[None]).numpy().tolist() == [expected(np.abs(mask)).tolist()]


def test_a_winding_path_is_one_component_and_takes_few_rounds(monkeypatch):
    path = np.zeros((63, 63), bool)
    path[::2] = True
    path[1::4, -1] = path[3::4, 0] = True  # 2,047 pixels, from one corner to the other
    rounds, hook = [], tf.tensor_scatter_nd_min
    monkeypatch.setattr(tf, "tensor_scatter_nd_min", lambda *args: rounds.append(1) or hook(*args))
    firsts, _, pairs = tensor_boxes._runs(tf.constant(path[None]))
    labels = tensor_boxes._components(len(firsts), pairs).numpy()  # eager: each round counts
    assert len(labels) == 63 and set(labels) == {0}
    assert len(rounds) <= 10


def test_another_image_of_the_batch_changes_nothing():
    masks = np.random.default_rng(0).random((5, 6, 7), np.float32)
    alone = [predict_boxes(mask[None]).numpy()[0] for mask in masks]
    assert predict_boxes(masks).numpy() == pytest.approx(np.stack(alone), abs=0)
