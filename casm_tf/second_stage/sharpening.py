"""From masks that tell where something is to masks that follow its edges, without labels.

The steps of the second stage, as `casm_tf.sharpen` takes them:

    start    <-  mean of CASM's mask and the classifier's activations     `seen`, `activation`
    label    <-  0.8 cut(start) + 0.2 start, cut along colours            `cut`, `blended`
    round 1, 2, ...
        student  <-  trained on the pictures whose cut and start agree    `chances`, `views`
        start    <-  the student's own masks                              `seen`
        label    <-  0.4 cut(start) + 0.6 start, sharpened                `blended`

Pictures are uint8 [N, PIXELS, PIXELS, 3], squashed; maps and labels float32 [N, CELLS, CELLS] in
[0, 1].
"""

import concurrent.futures

import cv2
import numpy as np
import tensorflow as tf

from casm_tf import host

TEACHERS = ("masks", "activations")
PIXELS, CELLS = 352, 176
_CUT_PIXELS = 144
_GRABCUT_ROUNDS = 4
_SURELY_NOT, _PROBABLY = 0.1, 0.5  # of a map, for GrabCut
_SLOPE, _ABOVE = 8, 0.5  # of activations: how soon what stands out by how many deviations counts
_LEVELS = np.linspace(0.2, 0.95, 16)  # of a map, at which it is compared with its cut
_LEAST_AGREEMENT = 0.35
_AREAS = (0.03, 0.7)  # of a label; what is less or more is rarely an object
_FIRST, _LATER = 0.8, 0.4  # how much of a label is the cut
_BESIDE, _TRIED = 16, 16  # every so many views one is empty; the windows that are tried for it
_CONTRAST, _LIGHT = 0.3, 38.0  # how much of it is added or taken at most; in steps of 255


def activation(maps):
    """How much a network makes of each place: the norm over channels, stretched and sharpened.

    What is left of a classifier when its classes are not asked for; A2S (Zhou et al., 2022) starts
    from such maps, too. `maps` are float32 [B, h, w, C], a classifier's coarsest; returns
    [B, CELLS, CELLS]:

        n = |a|, stretched to [0, 1];    sigmoid(8 (n - mean n - deviation of n / 2))
    """
    norms = tf.norm(maps, axis=-1, keepdims=True)
    least, most = (reduce(norms, (1, 2, 3), True) for reduce in (tf.reduce_min, tf.reduce_max))
    norms = (norms - least) / (most - least + 1e-6)
    mean, variance = tf.nn.moments(norms, (1, 2, 3), keepdims=True)
    sure = tf.sigmoid(_SLOPE * (norms - mean - _ABOVE * tf.sqrt(variance)))
    return tf.image.resize(sure, (CELLS, CELLS))[..., 0]


def seen(masks_of, images, sizes):
    """The mean of a model's masks of pictures at several sizes, and of their mirror images.

    `masks_of` takes float32 [B, S, S, 3], S being one of `sizes`, and gives [B, S, S, 1]; `images`
    are what it takes, at any size. Returns [B, CELLS, CELLS].
    """
    found = []
    for size in sizes:
        small = tf.image.resize(images, (size, size), antialias=True)
        found += [masks_of(small), tf.reverse(masks_of(tf.reverse(small, [2])), [2])]
    return tf.add_n([tf.image.resize(x, (CELLS, CELLS)) for x in found])[..., 0] / len(found)


def cut(picture, start):
    """A map cut along a picture's colours, by GrabCut (Rother, Kolmogorov and Blake, 2004).

    Two mixtures of colours, of the object and of the rest, are fitted to what the map says, and the
    picture is cut where they and its edges tell. A map with nothing above 0.5, or all of it, gives
    zeros.
    """
    side = (_CUT_PIXELS, _CUT_PIXELS)
    small = cv2.resize(picture, side, interpolation=cv2.INTER_AREA)
    map_ = cv2.resize(start, side, interpolation=cv2.INTER_LINEAR)
    kinds = np.select(
        [map_ < _SURELY_NOT, map_ > _PROBABLY], [cv2.GC_BGD, cv2.GC_PR_FGD], cv2.GC_PR_BGD
    ).astype(np.uint8)
    cutout = np.zeros(start.shape, np.float32)
    is_object = kinds == cv2.GC_PR_FGD
    if is_object.any() and not is_object.all():
        cv2.setRNGSeed(0)  # its mixtures start from draws
        colours = np.zeros((2, 1, 65))
        cv2.grabCut(small, kinds, None, *colours, _GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
        is_object = np.isin(kinds, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
        cutout = cv2.resize(is_object, start.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return cutout


def cuts(pictures, starts, report=lambda: None):
    """`cut` of each picture, in threads; `report` is called after each, and may raise."""
    pool = concurrent.futures.ThreadPoolExecutor(host.cores())
    found = []
    try:
        for cutout in pool.map(cut, pictures, starts):
            found.append(cutout)
            report()
    finally:
        pool.shutdown(cancel_futures=True)
    return np.stack(found)


def agreement(cutouts, starts):
    """How well a cut and the map that it started from agree, [N] in [0, 1]; 0 of an empty one.

    The best IoU of the cut with the map above any level, times 1 - the map's mean outside of the
    cut / its mean inside. The IoU at one level alone would prefer large objects: maps that are
    stretched to the same mean are too large for small ones.
    """
    inside = cutouts > 0.5
    overlaps = []
    for level in _LEVELS:
        above = starts > level
        either = np.count_nonzero(inside | above, axis=(1, 2))
        overlaps.append(np.count_nonzero(inside & above, axis=(1, 2)) / np.maximum(1, either))
    within, without = (
        (starts * part).sum(axis=(1, 2)) / np.maximum(1, np.count_nonzero(part, axis=(1, 2)))
        for part in (inside, ~inside)
    )
    contrast = 1 - without / np.maximum(within, 1e-6)
    return np.max(overlaps, axis=0) * np.clip(contrast, 0, 1)


def chances(cutouts, starts):
    """How often each picture is to be drawn, [N], sum 1, or all 0: by how well both maps agree.

    Where the colours contradict the map, one of them is wrong (DeepUSPS, Nguyen et al., 2019, keeps
    labels by such consistency). In proportion to what the agreement is above 0.35.
    """
    area = cutouts.mean(axis=(1, 2))
    is_object = (area > _AREAS[0]) & (area < _AREAS[1])
    excess = np.where(is_object, np.maximum(0, agreement(cutouts, starts) - _LEAST_AGREEMENT), 0)
    return excess / max(excess.sum(), 1e-9)


def blended(cutouts, starts, is_first):
    """Labels of cuts and what they started from: soft where these differ.

    Later ones are more of the student's own, which by then errs less than its labels (A2S-v2, CVPR
    2023, has the same 0.4 and 0.6), and sharpened, l^2 / (l^2 + (1 - l)^2), as a student of soft
    labels is unsure (MixMatch, Berthelot et al., 2019, does so to guesses).
    """
    if is_first:
        return _FIRST * cutouts + (1 - _FIRST) * starts
    labels = _LATER * cutouts + (1 - _LATER) * starts
    return labels**2 / (labels**2 + (1 - labels) ** 2)


def views(pictures, labels, predictions, chances, count, size, smallest, seed):
    """A training batch: `count` drawn pictures, float32 [count, size, size, 3], and what they have.

    That is their labels, at the same size and in [0, 1], and their predictions. Of each picture a
    part is seen, of `smallest` of its area or more, or all of it on a canvas of its corners'
    colour, of up to 1 / `smallest` of its area: so objects are of every size. One view of 16 is a
    place beside the object: there is nothing in it. Every second one is mirrored; each is brighter
    or darker, in more or less contrast, so that pixels may be outside of 0 to 255. `seed` is two
    integers, the batch's own.
    """
    draws = tf.random.stateless_uniform((8 + 3 * _TRIED, count), seed)
    chosen = tf.searchsorted(tf.cumsum(chances), draws[0] * tf.reduce_sum(chances), "right")
    chosen = tf.minimum(chosen, len(pictures) - 1)  # a sum is rounded
    pictures, labels, predictions = (
        tf.gather(array, chosen) for array in (pictures, labels, predictions)
    )
    labels = tf.image.convert_image_dtype(labels[..., None], tf.float32)  # 255 is 1
    few = count // _BESIDE
    empty = _beside(labels[:few], tf.reshape(draws[8:], (3, _TRIED, count))[..., :few])
    windows = tf.concat([empty, _corners(smallest, draws[1:6])[few:]], axis=0)
    place = (windows, tf.range(count), (size, size))

    inside = tf.image.crop_and_resize(tf.ones_like(pictures), *place)
    images = tf.image.crop_and_resize(pictures, *place)
    images += (1 - inside) * _corner_colours(pictures)
    contrast, light = (
        span * (2 * x[:, None, None, None] - 1)
        for span, x in zip((_CONTRAST, _LIGHT), tf.unstack(draws[6:8]), strict=True)
    )
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    images = (images - mean) * (1 + contrast) + mean + light
    labels = tf.image.crop_and_resize(labels, *place)
    # What is faint in an empty place is left of a map, and would be sought as an overlap.
    certain = tf.where(labels[:few] > 0.5, labels[:few], 0)
    labels = tf.concat([certain, labels[few:]], axis=0)
    # Nothing is predicted of it: a cross entropy with zeros is 0.
    predictions = tf.concat([tf.zeros_like(predictions[:few]), predictions[few:]], axis=0)
    return images, labels, predictions


def _corners(smallest, draws):
    """Windows on pictures as `tf.image.crop_and_resize` takes them, float32 [n, 4].

    Their area is `smallest` to 1 / `smallest` of the picture's, even in the logarithm, their ratio
    of width to height 3/4 to 4/3; every second one is mirrored. `draws` are [5, n] in [0, 1).
    """
    area, ratio = smallest ** (2 * draws[0] - 1), (4 / 3) ** (2 * draws[1] - 1)
    height, width = tf.sqrt(area / ratio), tf.sqrt(area * ratio)
    y, x = draws[2] * (1 - height), draws[3] * (1 - width)
    mirrored = draws[4] < 0.5
    left, right = tf.where(mirrored, x + width, x), tf.where(mirrored, x, x + width)
    return tf.stack([y, left, y + height, right], axis=1)


def _beside(labels, draws):
    """Windows on pictures where their labels [n, h, w, 1] have least, float32 [n, 4].

    Of some that are tried: squares of 0.3 to 0.5 of a side. `draws` are [3, tried, n] in [0, 1).
    """
    tried, count = draws.shape[1:]
    side = 0.3 + 0.2 * draws[0]
    y, x = draws[1] * (1 - side), draws[2] * (1 - side)
    windows = tf.stack([y, x, y + side, x + side], axis=-1)
    place = (tf.reshape(windows, (-1, 4)), tf.tile(tf.range(count), [tried]), (8, 8))
    salient = tf.reduce_mean(tf.image.crop_and_resize(labels, *place), axis=(1, 2, 3))
    least = tf.argmin(tf.reshape(salient, (tried, count)), axis=0)
    return tf.gather(tf.transpose(windows, (1, 0, 2)), least, batch_dims=1)


def _corner_colours(pictures):
    """The mean colour of the four corners, [B, 1, 1, 3]."""
    rows = tf.concat([pictures[:, :8], pictures[:, -8:]], axis=1)
    corners = tf.concat([rows[:, :, :8], rows[:, :, -8:]], axis=2)
    return tf.reduce_mean(tf.cast(corners, tf.float32), axis=(1, 2), keepdims=True)
