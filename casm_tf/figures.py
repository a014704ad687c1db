"""Pictures of masks: the paper's Figure 2, and a grid for TensorBoard."""

import pathlib

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from casm_tf.localization import binarize, predict_box

# Orange and sky blue of Okabe and Ito: told apart with every kind of colour vision.
_TRUE, _PREDICTED = "#E69F00", "#56B4E9"
_INPAINTING_RADIUS = 3  # pixels round each hole that Telea's method looks at


def figure_2(images, masks, boxes, path, method="volume", alpha=1.0):
    """Draw the paper's Figure 2 as a PNG: a column an image, seven in the paper.

    The rows are the original, masked in (b x), masked out ((1 - b) x), that inpainted, and
    the mask itself with the true boxes and the predicted one; b is the binarized mask. The file is
    written under another name and then renamed.

    Args:
        images: uint8 [N, H, W, 3].
        masks: float [N, H, W] in [0, 1].
        boxes: N integer arrays [M, 4] of true boxes x0, y0, x1, y1, half-open, in pixels.
        path: of the PNG.
        method, alpha: of `localization.binarize`.
    """
    binary = [binarize(mask, method, alpha) for mask in masks]
    rows = {
        "original": images,
        "masked in": [masked_in(*pair) for pair in zip(images, binary, strict=True)],
        "masked out": [masked_out(*pair) for pair in zip(images, binary, strict=True)],
        "inpainted": [inpainted(*pair) for pair in zip(images, binary, strict=True)],
        "mask, boxes": masks,
    }
    columns = len(images)
    figure = Figure(figsize=(1.25 * columns + 0.6, 1.25 * len(rows) + 0.5), dpi=150)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (title, pictures) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(title, fontsize=9)
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for axis, mask, true_boxes in zip(axes[-1], masks, boxes, strict=True):
        for box in true_boxes:
            _draw_box(axis, box, _TRUE)
        predicted = predict_box(mask, method, alpha)
        if predicted is not None:
            _draw_box(axis, predicted, _PREDICTED)
    figure.legend(
        handles=[Line2D([], [], color=_TRUE), Line2D([], [], color=_PREDICTED)],
        labels=["true box", "predicted box"],
        loc="lower right",
        ncols=2,
        frameon=False,
        fontsize=8,
    )
    figure.tight_layout(pad=0.3, rect=(0, 0.35 / figure.get_figheight(), 1, 1))

    path = pathlib.Path(path)
    unfinished = path.with_name(f".unfinished.{path.name}")
    try:
        FigureCanvasAgg(figure).print_png(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def masked_in(image, binary_mask):
    """b x: what is salient of an image uint8 [H, W, 3], the rest black; b is bool [H, W]."""
    return image * binary_mask[..., None].astype(image.dtype)


def masked_out(image, binary_mask):
    """(1 - b) x: an image uint8 [H, W, 3] with what is salient black; b is bool [H, W]."""
    return masked_in(image, ~binary_mask)


def inpainted(image, binary_mask):
    """The masked-out image with its holes filled from round them (Telea, 2004), uint8 [H, W, 3]."""
    holes = binary_mask.astype(np.uint8)
    return cv2.inpaint(image, holes, _INPAINTING_RADIUS, cv2.INPAINT_TELEA)


def mask_grid(images, masks, columns=8):
    """Images above their masks, `columns` a row, as one picture: uint8 [H', W', 3].

    `images` are uint8 [N, H, W, 3] and `masks` float [N, H, W] in [0, 1]; N is a multiple of
    `columns`, or smaller.
    """
    masks = np.round(255 * np.asarray(masks)).astype(np.uint8)
    tiles = np.concatenate([images, np.repeat(masks[..., None], 3, axis=-1)], axis=1)
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)


def _draw_box(axis, box, colour):
    x0, y0, x1, y1 = box
    # A pixel's centre has whole coordinates, so its corner lies half a pixel before.
    axis.add_patch(
        Rectangle(
            (x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.5
        )
    )
