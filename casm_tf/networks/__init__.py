"""The networks: classifiers, images -> logits and maps; the decoder, maps -> mask."""

import collections
import contextlib
import math
import pathlib
import warnings

import h5py
import keras
import tensorflow as tf

from casm_tf.choices import ARCHITECTURES
from casm_tf.networks import applications, efficientnet_lite, resnet
from casm_tf.networks.at_rest import AtRest
from casm_tf.networks.decoder import decoder
from casm_tf.networks.fine_decoder import fine_decoder
from casm_tf.networks.forms import (
    copy,
    encoder_copy,
    freeze_normalizations,
    mask_model,
    on_open_inputs,
    synchronize_batch_normalization,
    with_coarsest_maps,
    with_finest_map,
)
from casm_tf.networks.layers import head
from casm_tf.networks.resnet import RESNETS, ResNet

__all__ = [
    "ARCHITECTURES",
    "RESNETS",
    "AtRest",
    "ResNet",
    "classes_in",
    "classifier",
    "copy",
    "decoder",
    "encoder_copy",
    "fine_decoder",
    "freeze_normalizations",
    "head",
    "load_weights",
    "map_places",
    "map_shapes",
    "mask_model",
    "normalisation",
    "on_open_inputs",
    "share_statistics",
    "synchronize_batch_normalization",
    "with_coarsest_maps",
    "with_finest_map",
]

if keras.config.backend() != "tensorflow":
    raise ImportError(f"import casm_tf before keras; found Keras on {keras.config.backend()}")
# Whatever ~/.keras/keras.json says.
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")


def classifier(architecture, image_size, num_classes):
    """A classifier with the maps that a mask decoder reads.

    Args:
        architecture: one of `ARCHITECTURES`.
        image_size: height and width of the images in pixels: even for `small_resnet` and
            `medium_resnet`, a multiple of 4 for the other `RESNETS` (of 16 and 32, every map is
            half the one before it), of 32 for the rest.
        num_classes: how many logits.

    Returns:
        A `keras.Model`: float32 images [B, H, W, 3] -> {"logits": float32 [B, num_classes],
        "maps": finest first; five of `RESNETS`, else one for each of the strides 4, 8, 16 and 32}.

    Raises ValueError for another size.
    """
    if architecture in RESNETS:
        _check_size(architecture, image_size, 4 if RESNETS[architecture].deep_stem else 2)
        return resnet.classifier(architecture, image_size, num_classes)
    _check_size(architecture, image_size, 32)
    network = efficientnet_lite if architecture in efficientnet_lite.SCALES else applications
    return network.classifier(architecture, image_size, num_classes)


def normalisation(architecture):
    """The mean and deviation of pixels in [0, 1] that a network's published weights expect.

    Each three numbers, red, green and blue; None where the data set's own will do.
    """
    if architecture in efficientnet_lite.SCALES:
        return efficientnet_lite.MEAN, efficientnet_lite.STD
    if architecture in applications.NETWORKS:
        return applications.NETWORKS[architecture][1]
    return None


def load_weights(model, path, architecture=None):
    """Load weights that fit a classifier in every layer or, for an architecture, in all but one.

    Args:
        model: the classifier.
        path: a .weights.h5 file.
        architecture: one of `ARCHITECTURES`, the model's. Then the file may be for another number
            of classes or, of Keras's networks, one of Keras's own .h5 files, and `path` may be
            "imagenet" for the weights that Keras downloads.

    Returns:
        Whether the head's weights, too, are those of the file. If not, it is as it was made.

    Raises OSError for a file that cannot be read and ValueError for one that does not fit.
    """
    is_kerass = architecture in applications.NETWORKS
    if str(path) == "imagenet":
        if not is_kerass:
            raise ValueError(
                f"imagenet comes with Keras's networks; for {architecture} give a file"
            )
        return applications.fill(model, architecture, "imagenet")
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with _reading(path, model, architecture or model.name):
        if is_kerass and not path.name.endswith(".weights.h5"):
            return applications.fill(model, architecture, path)
        try:
            model.load_weights(path)
            return True
        except (ValueError, UserWarning):
            if architecture is None:
                raise
            keras.Model(model.input, head(model).input).load_weights(path)
            return False


def classes_in(path, model):
    """How many classes the weights in a file are for, if it is that alone in which they differ.

    None where they differ from the model's in more or in nothing, or cannot be read.
    """
    shapes = collections.Counter()

    def count(_, item):
        if isinstance(item, h5py.Dataset):
            shapes[item.shape] += 1

    try:
        with h5py.File(path) as file:
            file.visititems(count)
    except (OSError, RuntimeError, KeyError, ValueError):
        return None
    # The kernel and the bias of the last layer: their last dimension is the classes'.
    others = shapes - collections.Counter(tuple(weight.shape) for weight in model.weights)
    last = {shape[-1] for shape in others if shape}
    return last.pop() if len(last) == 1 else None


def share_statistics(*networks):
    """Set BatchNorm's moving statistics to the replicas' mean, as each has seen its own images.

    To be called in a replica; returns them, a list of tensors.
    """
    replicas = tf.distribute.get_replica_context()
    variables = [x for network in networks for x in network.non_trainable_variables]
    variables = [x for x in variables if "float" in x.dtype]  # not a dropout's seeds
    # A variable's value is on no device, which all-reduce would ask for.
    values = [tf.identity(x) for x in variables]
    if replicas.num_replicas_in_sync > 1:
        values = replicas.all_reduce("mean", values)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    return values


def map_shapes(model):
    """The shapes (height, width, channels) of a classifier's maps, finest first."""
    return [tuple(x.shape[1:]) for x in model.output["maps"]]


def map_places(model):
    """The places of a classifier's maps, [(stride, first)], finest first.

    Cell i of a map lies at pixel stride * i + first, the middle of what it sees
    (casm_tf/networks/places.py). The classifier is one of `ARCHITECTURES`; its name tells which.
    """
    # A map's size is the image's, halved and rounded up so many times.
    halvings = [math.log2(model.input_shape[1] / height) for height, _, _ in map_shapes(model)]
    strides = [2 ** math.ceil(count) for count in halvings]
    return [(stride, _first(model.name, stride)) for stride in strides]


def _first(architecture, stride):
    """The pixel at which a map's first cell lies, by how the strided layers before it pad."""
    if architecture in RESNETS or "resnet" in architecture:
        return 0  # as much on both sides: cell i is in the middle of 2i - 1, 2i, 2i + 1
    if architecture.startswith("convnext"):
        return (stride - 1) / 2  # not at all: patches, cell i is between 2i and 2i + 1
    if architecture.startswith("densenet"):
        return (stride - 4) / 2  # on both sides down to stride 4, patches from there on
    return stride - 1  # TensorFlow's "same", of even sizes right and below alone: 2i to 2i + 2


@contextlib.contextmanager
def _reading(path, model, name):
    """Turn what Keras raises for files into one line."""
    try:
        # Keras only warns of layers that it passed over.
        with warnings.catch_warnings(action="error", category=UserWarning):
            yield
    except OSError as error:
        raise OSError(f"{path} is not a whole HDF5 file: {error}") from error
    except (ValueError, KeyError, TypeError, RuntimeError, UserWarning) as error:
        found = classes_in(path, model)
        output = model.output["logits"] if isinstance(model.output, dict) else model.output
        if found not in (None, output.shape[-1]):
            expected = f"the data set has {output.shape[-1]}"
            raise ValueError(f"{path} is for {found} classes; {expected}") from error
        # Keras's own message prints the weights.
        raise ValueError(f"{path} does not hold the weights of a {name}") from error


def _check_size(architecture, image_size, multiple):
    if image_size % multiple:
        raise ValueError(f"{architecture} takes multiples of {multiple} pixels; found {image_size}")
