"""Pictures of masks: a row a picture, a single scored image, and a grid for TensorBoard.

Images are uint8 [H, W, 3]; a binary mask is bool [H, W], True = salient.
"""

import io
import warnings

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import ImageColor

from casm_tf import objectives
from casm_tf.evaluation.inpainting import inpainted
from casm_tf.evaluation.localization import binarize, predict_box
from casm_tf.host import files
from casm_tf.report.tables import method_title
from casm_tf.serving.masks import BOX_COLOR, MASK_COLOR, MASK_OPACITY

# The edge makes them visible on white, and the dashes show both where the boxes coincide.
GROUND_TRUTH_COLOR, PREDICTED_COLOR = MASK_COLOR, BOX_COLOR
_EDGE = [withStroke(linewidth=2.6, foreground="black")]
_GROUND_TRUTH = {"color": GROUND_TRUTH_COLOR, "linewidth": 1.4, "path_effects": _EDGE}
_PREDICTED = {**_GROUND_TRUTH, "color": PREDICTED_COLOR, "linestyle": (0, (3, 1.5))}
_TILE_INCHES, _TILE_PIXELS = 1.2, 192  # the pixels are a wish: an image's are enlarged k times
_LETTER_INCHES = 0.08  # of a caption, on an average
_TINT = np.float32(ImageColor.getrgb(MASK_COLOR))


def pictures_and_masks(path, images, masks, boxes, captions):
    """Draw a PNG with a row a picture: what each method finds, and what the first takes out.

    The columns are the picture with its true boxes and the first mask's, each mask with the true
    boxes and its own, and by the binarized first mask b the picture masked in (b x), masked out
    ((1 - b) x) and that inpainted; below each row is its caption. A pixel of an image becomes a
    square of whole pixels. The file is there when it is complete, or not.

    Args:
        path: of the PNG.
        images: uint8 [N, H, W, 3].
        masks: {method: float [N, H, W] in [0, 1]}.
        boxes: N integer arrays [M, 4] of ground-truth boxes x0, y0, x1, y1, half-open, in pixels.
        captions: N texts; what is too long for a row is cut off.

    Raises:
        ValueError: the arguments are not of these shapes, or what `binarize` raises.
    """
    for some in masks.values():
        images, _ = _checked(images, some)
    if not len(images) == len(boxes) == len(captions):
        raise ValueError(
            "boxes and captions are one for each image; "
            f"found {len(boxes)} and {len(captions)} for {len(images)}"
        )
    masks = {name: np.asarray(some, np.float32) for name, some in masks.items()}
    first = next(iter(masks.values()))
    columns = _columns(images, masks, first)
    scale = max(1, round(_TILE_PIXELS / images.shape[2]))
    tiles = np.stack(list(columns.values()), axis=1).repeat(scale, axis=2).repeat(scale, axis=3)
    height, width = tiles.shape[2:4]
    dpi = round(width / _TILE_INCHES)
    gap, head, below, legend = (round(inches * dpi) for inches in (0.06, 0.4, 0.24, 0.3))
    picture = _mosaic(tiles, gap, below)
    picture = np.pad(picture, ((head, legend), (gap, 0), (0, 0)), constant_values=255)

    figure, axes = _canvas(picture, dpi)
    for column, title in enumerate(columns):
        middle = gap + column * (width + gap) + width / 2
        axes.text(middle, head - gap / 2, title, fontsize=8, ha="center", va="bottom")
    longest = int(picture.shape[1] / dpi / _LETTER_INCHES)
    for row, (true_boxes, caption) in enumerate(zip(boxes, captions, strict=True)):
        corner = np.array([gap, head + row * (height + below)])
        for column, mask in enumerate([first[row], *(some[row] for some in masks.values())]):
            place = corner + np.array([column * (width + gap), 0])
            _draw_boxes(axes, true_boxes, predict_box(mask), place, scale, mask.shape)
        caption = " ".join(caption.split())
        if len(caption) > longest:
            caption = caption[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
        middle = corner[1] + height + below / 2
        axes.text(
            *(gap, middle, caption), fontsize=8, ha="left", va="center_baseline", parse_math=False
        )
    _draw_legend(axes, any(len(some) for some in boxes))
    # Of letters that Matplotlib's typeface lacks it warns and draws a box.
    with files.replacing(path) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        FigureCanvasAgg(figure).print_png(unfinished)


def scored_image(image, mask, boxes, predicted_box):
    """An image and, on its right, itself in grey with the mask in orange: a PNG, as bytes.

    Both have the ground-truth boxes, integers [M, 4], and the predicted one or None, half-open
    x0, y0, x1, y1 in pixels. The image is uint8 [H, W, 3], the mask float [H, W] in [0, 1]; raises
    ValueError for others.
    """
    images, masks = _checked([image], [mask])
    tiles = np.concatenate([images, _overlaid(images, masks)])
    scale = max(1, round(_TILE_PIXELS / images.shape[2]))
    tiles = tiles.repeat(scale, axis=1).repeat(scale, axis=2)
    width = tiles.shape[2]
    dpi = round(width / _TILE_INCHES)
    gap = round(0.04 * dpi)
    figure, axes = _canvas(_mosaic(tiles[None], gap, gap)[:-gap, :-gap], dpi)
    for left in (0, width + gap):
        _draw_boxes(axes, boxes, predicted_box, np.array([left, 0]), scale, masks.shape[1:])
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return png.getvalue()


def mask_grid(images, masks, columns=8):
    """Each image above itself in grey with the mask in orange on it: uint8 [H', W', 3].

    `images` are uint8 [N, H, W, 3] and `masks` float [N, H, W] in [0, 1]. There are `columns`
    images a row, or N if that is less; what is left of the last row stays white.
    """
    images, masks = _checked(images, masks)
    tiles = np.concatenate([images, _overlaid(images, masks)], axis=1)
    columns = min(columns, len(tiles))
    missing = -len(tiles) % columns
    tiles = np.pad(tiles, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=255)
    return _mosaic(tiles.reshape(-1, columns, *tiles.shape[1:]), 2, 2)


def _overlaid(images, masks):
    """Images in grey with their masks in orange on them, uint8 [N, H, W, 3]."""
    grey = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images])
    weight = MASK_OPACITY * masks[..., None]
    return np.round((1 - weight) * grey[..., None] + weight * _TINT).astype(np.uint8)


def _columns(images, masks, first):
    """{title: uint8 [N, H, W, 3]}; `first` are the masks by which pictures are taken apart."""
    binary = np.stack([binarize(mask) for mask in first])
    ones = binary[..., None].astype(np.uint8)
    grey = {
        method_title(name): np.round(255 * some)[..., None].astype(np.uint8).repeat(3, axis=-1)
        for name, some in masks.items()
    }
    return {
        "picture": images,
        **{f"mask of\n{title}": some for title, some in grey.items()},
        "masked in": objectives.masked_in(images, ones),
        "masked out": objectives.masked_out(images, ones),
        "masked out,\ninpainted": np.stack(
            [inpainted(*pair) for pair in zip(images, binary, strict=True)]
        ),
    }


def _draw_legend(axes, has_true_boxes):
    lines = {"true box": _GROUND_TRUTH} if has_true_boxes else {}
    lines |= {"box found by the mask": _PREDICTED}
    axes.legend(
        handles=[Line2D([], [], **style) for style in lines.values()],
        labels=list(lines),
        loc="lower right",
        ncols=2,
        frameon=False,
        fontsize=8,
        borderaxespad=0.2,
        columnspacing=1.2,
    )


def _canvas(picture, dpi):
    """A matplotlib figure of a picture, pixel for pixel, and axes over it in its pixels."""
    # Half a pixel more: what is not whole after the division is cut off.
    figure = Figure(figsize=[(size + 0.5) / dpi for size in picture.shape[1::-1]], dpi=dpi)
    figure.figimage(picture, origin="upper", zorder=-1)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, picture.shape[1]), ylim=(picture.shape[0], 0))
    axes.set_axis_off()
    return figure, axes


def _mosaic(tiles, gap, below):
    """Tiles [rows, columns, H, W, 3] as one picture, white gaps right of each and below it."""
    rows, columns, height, width, _ = tiles.shape
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, below), (0, gap), (0, 0)), constant_values=255)
    return tiles.swapaxes(1, 2).reshape(rows * (height + below), columns * (width + gap), 3)


def _draw_boxes(axes, boxes, predicted_box, corner, scale, shape):
    """The ground-truth boxes and the predicted one, if any, on the tile at `corner`."""
    drawn = [(box, _GROUND_TRUTH) for box in np.reshape(boxes, (-1, 4))]
    if predicted_box is not None:
        drawn.append((predicted_box, _PREDICTED))
    for box, style in drawn:  # cut off at the image's border
        start, end = corner + scale * np.clip(np.reshape(box, (2, 2)), 0, shape[::-1])
        axes.add_patch(Rectangle(start, *(end - start), fill=False, **style))


def _checked(images, masks):
    """Images and masks as arrays, if there are any and they go together."""
    images, masks = np.asarray(images), np.asarray(masks, np.float32)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise ValueError(
            f"images are uint8 [N, H, W, 3]; found {images.dtype} {list(images.shape)}"
        )
    if masks.shape != images.shape[:3]:
        raise ValueError(
            f"masks are {list(images.shape[:3])} like the images; found {list(masks.shape)}"
        )
    return images, masks
