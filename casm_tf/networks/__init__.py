"""The networks: classifiers, images -> logits and maps; the decoder, maps -> mask."""

import pathlib
import warnings

import keras
from keras import layers

from casm_tf.networks import efficientnet_lite, resnet
from casm_tf.networks.decoder import decoder
from casm_tf.networks.layers import BatchNormalization
from casm_tf.networks.resnet import RESNETS, ResNet

__all__ = [
    "ARCHITECTURES",
    "RESNETS",
    "ResNet",
    "classifier",
    "decoder",
    "encoder_copy",
    "load_weights",
    "map_shapes",
    "normalisation",
    "synchronize_batch_normalization",
]

ARCHITECTURES = (*resnet.ARCHITECTURES, *efficientnet_lite.SCALES)


def classifier(architecture, image_size, num_classes):
    """A classifier with the maps that a mask decoder reads.

    Args:
        architecture: one of `ARCHITECTURES`.
        image_size: height and width of the images in pixels: even for `small_resnet`, a multiple
            of 4 for the other ResNets (of 16 and 32, every map is half the one before it), of 32
            for the rest.
        num_classes: how many logits.

    Returns:
        A `keras.Model`: float32 images [B, H, W, 3] -> {"logits": float32 [B, num_classes],
        "maps": finest first; five of a ResNet, else one for each of the strides 4, 8, 16 and 32}.

    Raises ValueError for another size.
    """
    if architecture in efficientnet_lite.SCALES:
        _check_size(architecture, image_size, 32)
        return efficientnet_lite.classifier(architecture, image_size, num_classes)
    _check_size(architecture, image_size, 2 if architecture == "small_resnet" else 4)
    return resnet.classifier(architecture, image_size, num_classes)


def normalisation(architecture):
    """The mean and deviation of pixels in [0, 1] that a network's published weights expect.

    Each three numbers, red, green and blue; None where the data set's own will do.
    """
    if architecture in efficientnet_lite.SCALES:
        return efficientnet_lite.MEAN, efficientnet_lite.STD
    return None


def load_weights(model, path):
    """Load a .weights.h5 file that fits the model in every layer.

    Raises OSError for a file that cannot be read and ValueError for one that does not fit.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        # Keras only warns of layers that it passed over.
        with warnings.catch_warnings(action="error", category=UserWarning):
            model.load_weights(path)
    except OSError as error:
        raise OSError(f"{path} is not a whole HDF5 file: {error}") from error
    except (ValueError, KeyError, TypeError, RuntimeError, UserWarning) as error:
        # Keras's own message prints the weights.
        raise ValueError(f"{path} does not hold the weights of a {model.name}") from error


def encoder_copy(model):
    """A classifier's images -> maps as a network of its own, with the same weights."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return keras.Model(copy.input, copy.output["maps"], name="encoder")


def synchronize_batch_normalization(model):
    """Take the means and variances of training over all replicas, in place; Keras's layers too."""
    for layer in model.layers:
        if isinstance(layer, (BatchNormalization, layers.BatchNormalization)):
            layer.synchronized = True


def map_shapes(model):
    """The shapes (height, width, channels) of a classifier's maps, finest first."""
    return [tuple(x.shape[1:]) for x in model.output["maps"]]




def _check_size(architecture, image_size, multiple):
    if image_size % multiple:
        raise ValueError(f"{architecture} takes multiples of {multiple} pixels; found {image_size}")
