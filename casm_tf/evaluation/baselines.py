"""What CASM is compared with, as masks for the same evaluators.

`METHODS` are those that explain one prediction of one classifier: functions of a classifier as
`networks.classifier` makes it (images -> {"logits", ...}; the logits are made of one map's average,
mostly by a dense layer), images float32 [B, H, W, 3] and the class of each, integers [B]: where no
label is given, the predicted one. They return masks float32 [B, H, W] in [0, 1], brought there by
each map's own least and largest value; a constant map becomes zeros. ValueError is raised for
classes that are not one an image. A_k is channel k of the map that is averaged, S_c the logit of
class c.
"""

import keras
import numpy as np
import tensorflow as tf

_COPIES = 25  # of an image, for `smooth_gradient`

# What a mask takes of the classifier, its class included, in forward passes of one image. The
# gradient for the image counts as one more: each convolution's for its input has as many
# multiplications as the convolution, and none is taken for weights.
FORWARD_PASSES = {
    "full_image": 0,
    "centre_box": 0,
    # And a gradient that ends at the last map, of no weight.
    "cam": 1,
    "grad_cam": 1,
    "gradient": 2,
    "smooth_gradient": 1 + 2 * _COPIES,
}


def full_image(height, width):
    """The mask that takes everything for salient: ones, float32 [height, width]."""
    return np.ones((height, width), np.float32)


def centre_box(height, width, share=0.5**0.5):
    """The mask of a centred box: 0 or 1, float32 [height, width].

    Each side is a `share`, in (0, 1], of the image's, to the pixel; by default that of half its
    area: 158 of 224, as the original code's.
    """
    top, left = (round(side * (1 - share) / 2) for side in (height, width))
    mask = np.zeros((height, width), np.float32)
    mask[top : height - top, left : width - left] = 1
    return mask


def cam(classifier, images, classes):
    """Class activation mapping (Zhou et al. 2016): sum_k w_kc A_k, w the dense layer's weights.

    They are taken as the gradient of S_c for the average of A_k, which other heads have, too.
    """
    return _masks(_cam, classifier, images, classes)


def grad_cam(classifier, images, classes):
    """Grad-CAM (Selvaraju et al. 2017): relu(sum_k a_k A_k), a_k the mean of dS_c / dA_k.

    After the average that is w_kc / (the map's size): CAM's positive part.
    """
    return _masks(_grad_cam, classifier, images, classes)


def gradient(classifier, images, classes):
    """The gradient for the image (Simonyan et al. 2014): of |dS_c / dx|, the largest channel."""
    return _masks(_gradient, classifier, images, classes)


def smooth_gradient(classifier, images, classes, copies=_COPIES, noise=0.15, seed=0):
    """SmoothGrad (Smilkov et al. 2017): `gradient` with the mean of dS_c / dx over noisy copies.

    The noise is normal, its deviation `noise` times the image's largest value less its least. It is
    the same for all images, so that a mask does not depend on the others of its batch.
    """
    settings = (tf.constant(copies), tf.constant(noise, tf.float32), tf.constant(seed))
    return _masks(_smooth_gradient, classifier, images, classes, *settings)


METHODS = {
    "cam": cam,
    "grad_cam": grad_cam,
    "gradient": gradient,
    "smooth_gradient": smooth_gradient,
}


def _masks(method, classifier, images, classes, *settings):
    """A method's maps, float32 [B, h, w], enlarged to the images' size and brought to [0, 1]."""
    if np.shape(classes) != (len(images),):
        raise ValueError(
            f"classes are [{len(images)}], one an image; found shape {list(np.shape(classes))}"
        )
    maps = method(
        classifier, tf.convert_to_tensor(images), tf.convert_to_tensor(classes), *settings
    )
    maps = tf.image.resize(maps[..., None], images.shape[1:3], "bilinear")[..., 0].numpy()
    least = maps.min(axis=(1, 2), keepdims=True)
    extent = maps.max(axis=(1, 2), keepdims=True) - least
    return np.divide(maps - least, extent, where=extent > 0, out=np.zeros_like(maps))


@tf.function(reduce_retracing=True)
def _cam(classifier, images, classes):
    *_, average = (
        layer
        for layer in classifier.layers
        if isinstance(layer, keras.layers.GlobalAveragePooling2D)
    )
    outputs = {"map": average.input, "logits": classifier.output["logits"]}
    with tf.GradientTape() as tape:
        tape.watch(images)  # The map depends on them, whatever else is watched.
        outputs = keras.Model(classifier.input, outputs)(images, training=False)
        scores = tf.gather(outputs["logits"], classes, batch_dims=1)
    gradients = tf.cast(tape.gradient(scores, outputs["map"]), tf.float32)
    weights = tf.reduce_mean(gradients, axis=(1, 2))
    return tf.einsum("bhwk,bk->bhw", tf.cast(outputs["map"], tf.float32), weights)


@tf.function(reduce_retracing=True)
def _grad_cam(classifier, images, classes):
    return tf.nn.relu(_cam(classifier, images, classes))


@tf.function(reduce_retracing=True)
def _gradient(classifier, images, classes):
    return tf.reduce_max(tf.abs(_image_gradients(classifier, images, classes)), axis=-1)


@tf.function(reduce_retracing=True)
def _smooth_gradient(classifier, images, classes, copies, noise, seed):
    axes = (1, 2, 3)
    extent = tf.reduce_max(images, axes, True) - tf.reduce_min(images, axes, True)
    total = tf.zeros_like(images)
    for copy in tf.range(copies):
        draws = tf.random.stateless_normal(tf.shape(images)[1:], tf.stack([seed, copy]))
        total += _image_gradients(classifier, images + noise * extent * draws, classes)
    return tf.reduce_max(tf.abs(total), axis=-1) / tf.cast(copies, tf.float32)


def _image_gradients(classifier, images, classes):
    """dS_c / dx, float32 [B, H, W, 3]."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = classifier(images, training=False)["logits"]
        scores = tf.gather(logits, classes, batch_dims=1)
    return tape.gradient(scores, images)
