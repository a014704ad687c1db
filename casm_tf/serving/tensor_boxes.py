"""`localization.predict_box` by the volume rule in TensorFlow's ops, for graphs that are served."""

import tensorflow as tf

_DIGIT_BITS = 10


def predict_boxes(masks):
    """The box of each mask, float32 [B, H, W] in [0, 1], as fractions of its sides.

    Returns float32 [B, 4], x0, y0, x1, y1 in [0, 1] from the upper left corner: `predict_box`'s
    divided by W and H; four zeros where nothing is salient. NaN is not refused: the box of a mask
    with NaN means nothing, those of the others are as ever.
    """
    batch, height, width = tf.unstack(tf.shape(masks, tf.int64))
    firsts, lasts, pairs = _runs(_binarized(masks))
    image, row, left = tf.unstack(firsts, 3, axis=1)
    right = lasts[:, 2] + 1
    labels = _components(tf.shape(firsts, tf.int64)[0], pairs)

    def of_images(reduce, values):
        return reduce(values, image, batch)

    areas = tf.math.unsorted_segment_sum(right - left, labels, tf.size(labels))
    areas = tf.gather(areas, labels)
    largest = of_images(tf.math.unsorted_segment_max, areas)
    # The first of equally large ones: a component's label is its first run.
    is_largest = areas == tf.gather(largest, image)
    best = of_images(tf.math.unsorted_segment_min, tf.where(is_largest, labels, labels.dtype.max))
    inside = labels == tf.gather(best, image)
    x0, y0 = (
        of_images(tf.math.unsorted_segment_min, tf.where(inside, ends, ends.dtype.max))
        for ends in (left, row)
    )
    x1, y1 = (
        of_images(tf.math.unsorted_segment_max, tf.where(inside, ends, 0))
        for ends in (right, row + 1)
    )
    boxes = tf.cast(tf.stack([x0, y0, x1, y1], axis=1), tf.float32)
    boxes /= tf.cast(tf.stack([width, height, width, height]), tf.float32)
    return tf.where(largest[:, None] > 0, boxes, 0.0)


def _binarized(masks):
    """`localization.binarize` by the volume rule: float32 [B, H, W] -> bool alike."""
    flat = tf.reshape(masks, (tf.shape(masks)[0], -1))
    size = tf.cast(tf.shape(flat)[1], tf.float64)
    mean = tf.reduce_sum(tf.cast(flat, tf.float64), axis=1) / size
    rank = tf.cast((size - 1) * (1 - mean) + 0.5, tf.int32)
    thresholds = tf.clip_by_value(_of_rank(flat, rank), 1e-6, 1 - 1e-6)
    return masks > thresholds[:, None, None]


def _of_rank(values, rank):
    """The values, float32 [B, N] in [0, 1], at int32 [B] in ascending order; float32 [B].

    Sorting takes several times as long. The bits of floats that are not negative are integers in
    the same order; below 2, they are three digits of ten bits. Each digit is found by counting
    those of the values that have the digits before it.
    """
    base = 2**_DIGIT_BITS
    # Without the sign of -0.0, whose bits are a negative integer.
    bits, found = tf.bitcast(tf.abs(values), tf.int32), tf.zeros_like(rank)
    for shift in (2 * _DIGIT_BITS, _DIGIT_BITS, 0):
        # Values with other digits before become too large to be counted: what is below `found`
        # loses its sign.
        rest = (
            bits
            if shift == 2 * _DIGIT_BITS
            else tf.bitwise.bitwise_and(bits - found[:, None], tf.int32.max)
        )
        counts = tf.raw_ops.DenseBincount(
            input=tf.bitwise.right_shift(rest, shift),
            size=base,
            weights=tf.constant([], tf.int32),
            binary_output=False,
        )
        is_below = tf.cumsum(counts, axis=1) <= rank[:, None]
        rank -= tf.reduce_sum(tf.where(is_below, counts, 0), axis=1)
        digit = tf.reduce_sum(tf.cast(is_below, tf.int32), axis=1)
        found += tf.bitwise.left_shift(digit, shift)
    return tf.bitcast(found, tf.float32)


def _runs(salient):
    """The rows' runs of salient pixels in bool [B, H, W], from the first image's first row on.

    Returns the runs' first and last pixels, int64 [R, 3] each (image, row, column), and the pairs
    of runs that touch each other in two rows, int64 [2, E], numbers from 0 to R - 1.
    """
    height, width = tf.unstack(tf.shape(salient, tf.int64)[1:])
    firsts = tf.where(_is_first(salient))
    lasts = tf.where(salient & ~tf.pad(salient[..., 1:], ((0, 0), (0, 0), (0, 1))))

    def numbers(pixels):
        return tf.linalg.matvec(pixels, tf.stack([height * width, width, 1]))

    upper = numbers(tf.where(_is_first(salient[:, :-1] & salient[:, 1:])))
    both = tf.stack([upper, upper + width])
    flat = tf.searchsorted(numbers(firsts), tf.reshape(both, [-1]), side="right", out_type=tf.int64)
    return firsts, lasts, tf.reshape(flat - 1, tf.shape(both))


def _is_first(salient):
    """Whether a pixel of bool [B, H, W] is salient and the one on its left is not."""
    return salient & ~tf.pad(salient[..., :-1], ((0, 0), (0, 0), (1, 0)))


def _components(count, pairs):
    """Label the connected components of a graph, each with the least of its nodes.

    Every node points at one of its component that does not come after it, at first at itself. A
    round hooks the nodes of a pair, and what they point at, to the less of what they point at, and
    then lets every node point at what that points at. So the paths shrink by half, and even a
    winding one takes few rounds.

    Args:
        count: the number of nodes R, int64.
        pairs: of nodes that are connected, int64 [2, E].

    Returns:
        int64 [R].
    """

    def round_(pointers, _):
        ends = tf.gather(pointers, pairs)
        least = tf.tile(tf.reduce_min(ends, axis=0), [4])
        nodes = tf.reshape(tf.concat([ends, pairs], axis=0), (-1, 1))
        hooked = tf.tensor_scatter_nd_min(pointers, nodes, least)
        hooked = tf.gather(hooked, hooked)
        return hooked, tf.reduce_any(hooked != pointers)

    start = (tf.range(count, dtype=tf.int64), tf.constant(True))
    return tf.while_loop(lambda _, changed: changed, round_, start)[0]
