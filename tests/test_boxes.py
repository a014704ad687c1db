"""The boxes of several objects: those of a mask, in the pixels of the picture that it is of."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from casm_tf.evaluation import localization
from casm_tf.serving import masks, tensor_boxes

predict_boxes = tf.function(
    tensor_boxes.predict_boxes, input_signature=[tf.TensorSpec((None, None, None), tf.float32)]
)
squares = st.integers(1, 16).flatmap(
    lambda side: arrays(
        np.float32,
        (side, side),
        elements=st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.5, 1.0]),
    )
)
lengths = st.integers(1, 50)


def mask_of(small, size):
    """A mask with the box that a model gives with it."""
    box = masks.in_pixels(predict_boxes(small[None]).numpy()[0], len(small), size)
    return masks.Mask(size, box, "cat", 1.0, small, None)


def two_and_a_speck():
    """Of 400 cells 8, 30 and 3, of which 4 would be a hundredth."""
    small = np.zeros((20, 20), np.float32)
    small[1:3, 3:7] = 1
    small[9:14, 13:19] = 1
    small[19, :3] = 1
    return small


def test_two_objects_and_a_speck_by_hand():
    # A cell is two pixels wide and half a pixel high; a pixel that a box touches counts.
    mask = mask_of(two_and_a_speck(), (40, 10))
    assert mask.box == (26, 4, 38, 7)
    assert mask.boxes == [(26, 4, 38, 7), (6, 0, 14, 2)]


def test_a_hundredth_of_the_picture_is_enough():
    small = two_and_a_speck()
    small[18, 0] = 1
    assert mask_of(small, (20, 20)).boxes == [(13, 9, 19, 14), (3, 1, 7, 3), (0, 18, 3, 20)]
    mask = np.zeros((7, 100), np.float32)
    mask[:, 0] = mask[0, 2:9] = 1  # in floats 0.01 * 700 is more than 7
    assert localization.component_boxes(mask, 0.01) == [(0, 0, 1, 7), (2, 0, 9, 1)]


def test_one_object_has_its_box_however_small_and_none_has_none():
    small = np.zeros((20, 20), np.float32)
    assert mask_of(small, (20, 20)).boxes == []
    small[5, 7] = 1
    mask = mask_of(small, (20, 20))
    assert mask.boxes == [mask.box] == [(7, 5, 8, 6)]


def test_of_equally_large_ones_the_first_is_the_one_that_begins_first():
    small = np.zeros((6, 6), np.float32)
    small[3, :2] = small[1:3, 5] = small[0, 1:3] = 1
    mask = mask_of(small, (6, 6))
    assert mask.boxes == [(1, 0, 3, 1), (5, 1, 6, 3), (0, 3, 2, 4)]
    assert mask.box == mask.boxes[0]


@hypothesis.given(small=squares, size=st.tuples(lengths, lengths))
def test_boxes_lie_in_the_picture_and_the_first_is_the_models(small, size):
    mask = mask_of(small, size)
    assert mask.boxes[:1] == ([mask.box] if mask.box else [])
    width, height = size
    for x0, y0, x1, y1 in mask.boxes:
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height


def test_a_mask_of_nan_has_no_boxes_to_tell():
    mask = masks.Mask((4, 4), None, "cat", 1.0, np.full((4, 4), np.nan, np.float32), None)
    with pytest.raises(ValueError, match="found nan to nan"):
        mask.boxes  # noqa: B018
