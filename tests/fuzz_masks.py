"""Masks, boxes and what goes with them, as hypothesis draws them."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

TINY = float(np.finfo(np.float32).tiny)
EDGES = [0.0, 1e-45, TINY, 1e-6, 0.5, 1 - 1e-6, 1 - 2**-24, 1.0]
IN_RANGE = st.sampled_from(EDGES).map(lambda x: float(np.float32(x))) | st.floats(0, 1, width=32)


@st.composite
def masks_of(draw, count, side=6, kinds=(np.float32,)):
    """Masks [B, H, W] in [0, 1] of one of the types; some of them constant, or of 0 and 1 alone."""
    kind = draw(st.sampled_from(kinds))
    sides = draw(array_shapes(min_dims=2, max_dims=2, max_side=side))
    masks = draw(arrays(np.float32, (draw(count), *sides), elements=IN_RANGE))
    for mask in masks:
        form = draw(st.sampled_from(["any", "any", "binary", 0.0, 0.5, 1.0, -0.0]))
        if form == "binary":
            mask[:] = np.round(mask)
        elif form != "any":
            mask[:] = form
    if np.dtype(kind).kind in "bu":
        masks = np.round(masks)
    return masks.astype(kind)


@st.composite
def box_lists(draw):
    """Boxes, int [N, 4] with N of 1 to 3, also without an area, inside out and beyond the mask."""
    corners = draw(arrays(int, (draw(st.integers(1, 3)), 4), elements=st.integers(-4, 9)))
    if draw(st.integers(0, 3)):
        corners[:, :2], corners[:, 2:] = (
            np.minimum(corners[:, :2], corners[:, 2:]),
            np.maximum(corners[:, :2], corners[:, 2:]),
        )
    return corners.astype(draw(st.sampled_from([np.int8, np.int32, np.int64])))


@st.composite
def scenes(draw, least, classes=None):
    """All that evaluators look at, of `least` to 4 images, in a dict."""
    masks = draw(masks_of(st.integers(least, 4)))
    count = len(masks)
    numbers = st.integers(0, draw(st.integers(1, 3) if classes is None else classes) - 1)
    steps = draw(st.integers(2, 4))
    shares = arrays(
        float, (count, 1 + steps), elements=st.floats(0, 1) | st.sampled_from([0.0, 1.0])
    )
    drawn = draw(shares)
    return {
        "masks": masks,
        "boxes": [draw(box_lists()) for _ in range(count)],
        "truths": draw(arrays(bool, masks.shape)),
        "correct": draw(arrays(bool, count)),
        "labels": draw(arrays(int, count, elements=numbers)),
        "classes": draw(arrays(int, count, elements=numbers)),
        "judged": draw(arrays(int, count, elements=numbers)),
        "shares": drawn[:, 0],
        "first": drawn[:, 1],
        "curves": drawn[:, 1:],
        "fading": drawn[:, :0:-1],
    }


def turned(scene, turn):
    """The scene upside down ("rows"), mirrored ("columns") or with rows for columns."""
    height, width = scene["masks"].shape[1:]

    def turn_mask(masks):
        if turn == "transposed":
            return masks.transpose(0, 2, 1)
        return masks[:, ::-1] if turn == "rows" else masks[:, :, ::-1]

    def turn_box(boxes):
        x0, y0, x1, y1 = boxes.astype(int).T
        if turn == "transposed":
            return np.stack([y0, x0, y1, x1], axis=1)
        if turn == "rows":
            return np.stack([x0, height - y1, x1, height - y0], axis=1)
        return np.stack([width - x1, y0, width - x0, y1], axis=1)

    return {
        **scene,
        "masks": turn_mask(scene["masks"]),
        "truths": turn_mask(scene["truths"]),
        "boxes": [turn_box(boxes) for boxes in scene["boxes"]],
    }
