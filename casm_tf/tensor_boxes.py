"""`localization.predict_box` by the volume rule in TensorFlow's ops, for graphs that are served."""

import tensorflow as tf


def predict_boxes(masks):
    """The box of each mask, float32 [B, H, W] in [0, 1], as fractions of its sides.

    Returns float32 [B, 4], x0, y0, x1, y1 in [0, 1] from the upper left corner: `predict_box`'s
    divided by W and H; four zeros where nothing is salient.
    """
    shape = tf.shape(masks)
    area = shape[1] * shape[2]
    labels = tf.reshape(_components(_binarized(masks)), (shape[0], area))
    labels -= area * tf.range(shape[0])[:, None]  # of an image's own pixels; what is not salient
    labels = tf.where(labels < area, labels, area)  # has `area`
    sizes = tf.math.bincount(labels, minlength=area + 1, maxlength=area + 1, axis=-1)
    # The first of equally large ones: a component's label is its first pixel.
    largest = tf.argmax(sizes[:, :area], axis=1, output_type=tf.int32)
    inside = tf.reshape(labels == largest[:, None], shape)
    columns, rows = tf.reduce_any(inside, axis=1), tf.reduce_any(inside, axis=2)
    (x0, x1), (y0, y1) = _ends(columns), _ends(rows)
    return tf.stack([x0, y0, x1, y1], axis=1)


def _binarized(masks):
    """`localization.binarize` by the volume rule: float32 [B, H, W] -> bool alike."""
    flat = tf.reshape(masks, (tf.shape(masks)[0], -1))
    size = tf.cast(tf.shape(flat)[1], tf.float64)
    mean = tf.reduce_sum(tf.cast(flat, tf.float64), axis=1) / size
    rank = tf.cast((size - 1) * (1 - mean) + 0.5, tf.int32)
    thresholds = tf.gather(tf.sort(flat, axis=1), rank, batch_dims=1)
    return masks > tf.clip_by_value(thresholds, 1e-6, 1 - 1e-6)[:, None, None]


def _components(salient):
    """Label the 4-connected components of bool [B, H, W], each with its first pixel's number.

    Pixels are numbered from 0 through the batch; what is not salient has the number after the last.
    Every pixel points at a pixel of its component that does not come after it, at first itself. A
    round hooks what it points at to the least that a neighbour points at, and then lets it point at
    what that points at. So the paths shrink by half, and even a winding one takes few rounds.
    """
    shape = tf.shape(salient)
    total = tf.size(salient)
    numbers = tf.where(tf.reshape(salient, [-1]), tf.range(total), total)
    outside = tf.concat([numbers, [total]], axis=0)  # so that the number after the last is one too

    def round_(pointers, _):
        grid = tf.reshape(pointers[:-1], shape)
        padded = tf.pad(grid, ((0, 0), (1, 1), (1, 1)), constant_values=total)
        vertical = tf.minimum(padded[:, :-2, 1:-1], padded[:, 2:, 1:-1])
        horizontal = tf.minimum(padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
        least = tf.minimum(grid, tf.minimum(vertical, horizontal))
        least = tf.concat([tf.reshape(tf.where(salient, least, total), [-1]), [total]], axis=0)
        hooked = tf.tensor_scatter_nd_min(pointers, pointers[:, None], least)
        hooked = tf.minimum(hooked, least)
        hooked = tf.gather(hooked, hooked)
        return hooked, tf.reduce_any(hooked != pointers)

    pointers, _ = tf.while_loop(lambda _, changed: changed, round_, (outside, tf.constant(True)))
    return pointers[:-1]


def _ends(occupied):
    """Where bool [B, N] first is true and where it was last, over N: two float32 [B]."""
    length = tf.shape(occupied)[1]
    first = tf.argmax(occupied, axis=1, output_type=tf.int32)
    last = length - tf.argmax(occupied[:, ::-1], axis=1, output_type=tf.int32)
    some = tf.reduce_any(occupied, axis=1)
    return [
        tf.where(some, tf.cast(end, tf.float32) / tf.cast(length, tf.float32), 0.0)
        for end in (first, last)
    ]
