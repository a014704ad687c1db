"""What the two networks are trained for: pure functions of logits, labels and masks.

The decoder *maximises* a score, the mean over the batch of

    S = H(f((1 - m) x))  [or l(f((1 - m) x), y)]  +  lambda_R R(m)  -  lambda_TV TV(m)
        -  lambda_in l(f(m x), y),

and the classifier minimises a classification loss of the masked and the clean image. Logits are
float32 [B, K], labels int32 or int64 [B], masks float32 [B, H, W, 1] in [0, 1]; what is returned is
one number an image, float32 [B]. NaN is not refused: it stays in its own image's number.
"""

import math

import numpy as np
import tensorflow as tf

from casm_tf.choices import OBJECTIVES

_CELLS = 8  # along a side of a blurred copy
# lambda_R of the original code for ImageNet's 1,000 classes, by score and thinning.
ORIGINAL_LAMBDA = {
    "entropy": {"F": 2.5, "L": 14.0, "FL": 7.5, "L100": 10.0, "L1000": 10.0},
    "classification": {"F": 9.0, "L": 18.0, "FL": 11.0, "L100": 17.0, "L1000": 17.0},
}


def check_choices(**chosen):
    """Raise ValueError where something is chosen, name=choice, that is not in `OBJECTIVES`.

    Or where both choices of the classifier's leave steps without any loss.
    """
    for name, choice in chosen.items():
        if choice not in OBJECTIVES[name]:
            known = " or ".join(map(repr, OBJECTIVES[name]))
            raise ValueError(f"{name} is {known}; found {choice!r}")
    if chosen.get("classifier_form") == "masked" and chosen.get("masked_steps") == "present":
        raise ValueError("classifier_form 'masked' needs masked_steps 'always'")


def filling(images, fill, seed=0, step=0):
    """What is seen where a mask hides images, as `masked_out` takes it.

    Args:
        images: float32 [B, H, W, 3], normalised.
        fill: "mean", the mean colour: the mask's place and outline are plain to see. "blur", means
            over a grid of 8 by 8, drawn smoothly: the hidden colours and their rough layout stay.
            "noise", normal, of the image's own mean and deviation a channel: its palette stays, and
            the outline as a change of texture. "shuffle", the next image of the batch: nothing of
            this image stays, but the other one's evidence comes in.
        seed, step: of the noise.
    """
    if fill == "mean":
        return None
    if fill == "shuffle":
        return tf.roll(images, 1, axis=0)
    if fill == "blur":
        down, across = (_means_over_cells(side) for side in images.shape[1:3])
        return tf.image.resize(
            tf.einsum("yh,bhwc,xw->byxc", down, images, across), images.shape[1:3]
        )
    mean, variance = tf.nn.moments(images, axes=(1, 2), keepdims=True)
    seed = tf.random.experimental.stateless_fold_in((seed, 3), tf.cast(step, tf.int64))
    return mean + tf.sqrt(variance) * tf.random.stateless_normal(tf.shape(images), seed)


def _means_over_cells(side):
    """float32 [cells, side]: how much of each cell's mean is of each pixel."""
    # In units of 1 / _CELLS of a pixel a cell is `side` long, and a pixel _CELLS.
    overlaps = np.repeat(np.eye(_CELLS), side, axis=1).reshape(_CELLS, side, _CELLS).sum(axis=2)
    return tf.constant(overlaps / side, tf.float32)


def masked_out(images, masks, filling=None):
    """The image without what is salient, (1 - m) x + m `filling`.

    None is 0, the mean colour of normalised images: then it is the paper's (1 - m) x.
    """
    return _filled(images * (1 - masks), filling, masks)


def masked_in(images, masks, filling=None):
    """The image with only what is salient, m x + (1 - m) `filling`; None as in `masked_out`."""
    return _filled(images * masks, filling, 1 - masks)


def _filled(seen, filling, hidden):
    return seen if filling is None else seen + filling * hidden


def cross_entropy(logits, labels):
    """The classification loss l(f(x), y) = -log softmax(f(x))_y, in nats."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def entropy(logits):
    """H(f(x)) = -sum_k p_k log p_k with p = softmax(f(x)), in nats: 0 to log K (eq. 7)."""
    log_probabilities = tf.nn.log_softmax(logits)
    return -tf.reduce_sum(tf.exp(log_probabilities) * log_probabilities, axis=-1)


def predicted(logits):
    """The class of the largest logit, int32 [B]."""
    return tf.argmax(logits, axis=-1, output_type=tf.int32)


def is_right(logits, labels):
    """1.0 where the largest logit is the label's, else 0.0."""
    return tf.cast(tf.argmax(logits, axis=-1, output_type=labels.dtype) == labels, tf.float32)


def entropy_score(masked_logits, clean_right):
    """Score E: the entropy on the masked image, counted where the clean image is classified right.

    `clean_right` is `is_right` of the clean images. An image that the classifier does not know has
    no evidence to be removed; the original code leaves it out in the same way.
    """
    return entropy(masked_logits) * clean_right


def classification_score(masked_logits, labels):
    """Score C: the classification loss on the masked image."""
    return cross_entropy(masked_logits, labels)


def adaptive_size(masks, clean_right, masked_right):
    """The original's size term, max(0, c - mean m): to be maximised, so the mask is to be small.

    c = 1 only where the clean image is classified right and the masked one wrong: a mask is pressed
    to shrink only while it still hides the object.
    """
    c = clean_right * (1 - masked_right)
    return tf.nn.relu(c - mean_mask(masks))


def l1_size(masks):
    """The size term of eq. (7), -||m||_1 / (H W): to be maximised, hence the minus."""
    return -mean_mask(masks)


def evidence(masked_logits, labels, clean_right, score="entropy"):
    """What the critic is unsure of: `entropy_score`, or with "classification" that score."""
    if score == "entropy":
        return entropy_score(masked_logits, clean_right)
    return classification_score(masked_logits, labels)


def size(masks, clean_right, masked_right, form="adaptive"):
    """The size term R(m): `adaptive_size`, or with "l1" that of eq. (7)."""
    return adaptive_size(masks, clean_right, masked_right) if form == "adaptive" else l1_size(masks)


def mean_mask(masks):
    """The share of the image that a mask covers, 0 to 1."""
    return tf.reduce_mean(masks, axis=(1, 2, 3))


def mask_entropy(masks):
    """Mean of -m log2 m, in bits: 0 where every value is 0 or 1."""
    return -tf.reduce_mean(tf.math.xlogy(masks, masks), axis=(1, 2, 3)) / math.log(2)


def total_variation(masks):
    """Mean of the squared differences between neighbours, down and to the right added.

    Along a side of one pixel it is 0.
    """
    return sum(_mean_square(_differences(masks, axis)) for axis in (1, 2))


def _differences(x, axis):
    # On a CPU the gradient of x[1:] - x[:-1] takes ten times as long.
    length = (tf.shape(x)[axis] if x.shape[axis] is None else x.shape[axis]) - 1
    _, after = tf.split(x, (1, length), axis)
    before, _ = tf.split(x, (length, 1), axis)
    return after - before


def _mean_square(differences):
    # The mean of no differences is no number; their sum is 0.
    reduce = tf.reduce_sum if 0 in differences.shape else tf.reduce_mean
    return reduce(tf.square(differences), axis=(1, 2, 3))


def classifier_loss(clean_loss, masked_loss, form="both"):
    """The classifier's loss: eq. (8), the mean of both cross-entropies, or eq. (3), masked only.

    `form` is "both" or "masked".
    """
    return (clean_loss + masked_loss) / 2 if form == "both" else masked_loss


def original_lambda(score, thinning, num_classes):
    """The original's lambda_R, scaled from 1,000 classes by the largest entropies' ratio.

    Every n-th step other than 100 and 1,000 takes L100's.
    """
    values = ORIGINAL_LAMBDA[score]
    return values.get(thinning, values["L100"]) * math.log(num_classes) / math.log(1000)
