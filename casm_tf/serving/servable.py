"""A mask model as functions in a graph, with what comes before and after the network inside."""

import json
import math
import pathlib

import numpy as np
import tensorflow as tf

from casm_tf import networks
from casm_tf.host import files
from casm_tf.serving import decoding, tensor_boxes
from casm_tf.serving.masks import STRIDE

PLACES = "assets.extra/weights.json"  # in an exported model's directory: what `servable` returns


def servable(model, labels, mean, std, weights="float32"):
    """A mask model's weights and its signatures.

    `export.export_model` tells of the arguments, docs/serving.md of the signatures. The weights lie
    in one vector for each type: of hundreds of variables TensorFlow takes two seconds to load.

    Returns:
        (a tf.Module that holds them; {name: function}; where the weights are: {type: {path of the
        Keras variable: shape, in the vector's order}}).

    Raises what `checked_size` raises.
    """
    image_size = checked_size(model, labels, mean, std)
    module, places = _packed(model, weights)
    scalable = open_sized(model)
    look = _looking(scalable or model, module.packed, places, labels, mean, std)

    @tf.function(input_signature=[_images(image_size)])
    def from_pixels(images):
        # A server does not hold a request to the signature's shape, and the network's ops end the
        # whole process for some others.
        outputs = look(tf.ensure_shape(images, (None, image_size, image_size, 3)))
        mask = tf.ensure_shape(outputs["mask"], (None, image_size, image_size, 1))
        return {**outputs, "mask": mask}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def from_bytes(image_bytes):
        image_bytes = tf.ensure_shape(image_bytes, (None,))
        images = tf.map_fn(
            lambda data: decoding.squashed(data, image_size),
            image_bytes,
            fn_output_signature=tf.TensorSpec((image_size, image_size, 3), tf.float32),
        )
        return from_pixels(images)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def png_from_bytes(image_bytes):
        outputs = from_bytes(image_bytes)
        grey = tf.cast(tf.round(255 * outputs.pop("mask")), tf.uint8)
        pngs = tf.map_fn(tf.io.encode_png, grey, fn_output_signature=tf.string)
        return {"mask_png_bytes": pngs, **outputs}

    @tf.function(input_signature=[_images(None)])
    def of_any_size(images):
        images = tf.ensure_shape(images, (None, None, None, 3))
        height, width = tf.unstack(tf.shape(images)[1:3])
        fits = (height == width) & (height > 0) & (height % STRIDE == 0)
        message = f"expected square images, a multiple of {STRIDE} pixels a side; found"
        with tf.control_dependencies([tf.debugging.Assert(fits, [message, tf.shape(images)])]):
            return look(tf.identity(images))

    signatures = {
        "serving_default": from_pixels,
        "image_bytes": from_bytes,
        "mask_png_bytes": png_from_bytes,
    }
    if scalable:
        signatures["any_size"] = of_any_size
    return module, signatures, places


def checked_size(model, labels, mean, std):
    """The height and width of a model's images; ValueError unless it can be served with these."""
    _, height, width, channels = model.input_shape
    if height is None or height != width or channels != 3:
        raise ValueError(f"a model of square images is expected; found {model.input_shape}")
    if not isinstance(model.output, dict) or set(model.output) != {"mask", "logits"}:
        raise ValueError("a model with the outputs mask and logits is expected")
    if model.output["logits"].shape[-1] != len(labels):
        raise ValueError(f"{model.output['logits'].shape[-1]} logits; found {len(labels)} labels")
    if np.shape(mean) != (3,) or np.shape(std) != (3,) or not np.min(std) > 0:
        raise ValueError(f"mean and std are three numbers, std above 0; found {mean} and {std}")
    return height


def read_weights(directory):
    """The weights of an exported model: {path of the Keras variable: float32 array}.

    A path is such as "block3_expand/kernel": layers whose names are in another network too can take
    them from here. Raises ValueError where there is no exported mask model.
    """
    directory = pathlib.Path(directory)
    found = {}
    try:
        with files.literal(directory) as literal:
            checkpoint = tf.train.load_checkpoint(str(literal / "variables" / "variables"))
            for kind, shapes in json.loads((directory / PLACES).read_text()).items():
                vector = checkpoint.get_tensor(f"packed/{kind}/.ATTRIBUTES/VARIABLE_VALUE")
                ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
                for path, piece in zip(shapes, np.split(vector, ends[:-1]), strict=True):
                    found[path] = piece.reshape(shapes[path]).astype(np.float32)
    except (tf.errors.OpError, OSError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{directory} has no weights that can be read") from error
    return found


def fill(classifier, decoder, directory, with_head):
    """Give a classifier and a decoder, or None, an exported model's weights; a head's if asked to.

    Raises ValueError for networks of another kind.
    """
    found = read_weights(directory)
    variables = {v.path: v for v in classifier.variables}
    if decoder is not None:
        variables |= {v.path: v for v in decoder.variables}
    if not with_head:
        for variable in networks.head(classifier).variables:
            del variables[variable.path]
    for path, variable in variables.items():
        if path not in found or found[path].shape != tuple(variable.shape):
            raise ValueError(
                f"the model in {directory} is of another kind: its weights do not fit at {path}; "
                "configs/finetune.flags has the flags that do"
            )
    for path, variable in variables.items():
        variable.assign(found[path])


def _images(size):
    return tf.TensorSpec((None, size, size, 3), tf.float32, name="images")


def _kept_as(variable, weights):
    """A weight's type in the file: kernels may be in float16, what normalizes is in float32."""
    is_kernel = variable.dtype == "float32" and len(variable.shape) > 1
    return weights if is_kernel else variable.dtype


def _packed(model, weights):
    """A tf.Module with a model's weights, and where they are, as `servable` returns them."""
    places = {}
    for variable in model.variables:
        of_type = places.setdefault(_kept_as(variable, weights), {})
        of_type[variable.path] = tuple(variable.shape)
    if sum(map(len, places.values())) < len(model.variables):
        raise ValueError("two weights of the model have one name")
    module = tf.Module()
    values = {variable.path: variable.value for variable in model.variables}
    module.packed = {
        kind: tf.Variable(
            tf.concat([tf.reshape(tf.cast(values[path], kind), [-1]) for path in shapes], axis=0)
        )
        for kind, shapes in places.items()
    }
    return module, places


def _unpacked(packed, places):
    """The weights in a graph, {path: tensor}, from the vectors that `servable` made."""
    found = {}
    for kind, shapes in places.items():
        vector = tf.convert_to_tensor(packed[kind])
        if kind == "float16":  # cast in 3 ms for five million weights
            vector = tf.cast(vector, tf.float32)
        pieces = tf.split(vector, [math.prod(shape) for shape in shapes.values()])
        for (path, shape), piece in zip(shapes.items(), pieces, strict=True):
            found[path] = tf.reshape(piece, shape)
    return found


def _looking(network, packed, places, labels, mean, std):
    """Images with pixels from 0 to 255 -> mask, box, probabilities and label, in a graph.

    It is a function of its own, so that what the signatures share is written once.
    """
    mean, std = np.float32(mean), np.float32(std)

    @tf.function(input_signature=[_images(network.input_shape[1])])
    def look(images):
        weights = _unpacked(packed, places)
        trainable, others = (
            [weights[v.path] for v in variables]
            for variables in (network.trainable_variables, network.non_trainable_variables)
        )
        # TensorFlow's ReLU refuses an empty batch: a picture is added, and taken off again.
        count = tf.shape(images)[0]
        images = tf.pad(images, [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
        images = (images / 255 - mean) / std
        outputs, _ = network.stateless_call(trainable, others, images, training=False)
        probabilities = tf.nn.softmax(outputs["logits"])
        found = {
            "mask": outputs["mask"],
            "box": tensor_boxes.predict_boxes(outputs["mask"][..., 0]),
            "probabilities": probabilities,
            "label": tf.gather(tf.constant(list(labels)), tf.argmax(probabilities, axis=1)),
        }
        return {name: value[:count] for name, value in found.items()}

    return look


def open_sized(model):
    """A model with the same layers that takes square images of any multiple of 32 pixels a side.

    None where a layer's weights depend on the size, or the mask would not be as large as the image.
    """
    size = 2 * STRIDE if model.input_shape[1] == STRIDE else STRIDE
    try:
        scalable = networks.on_open_inputs(model)
        mask = scalable(tf.zeros((1, size, size, 3)), training=False)["mask"]
    except (ValueError, TypeError, tf.errors.OpError):  # a layer that is held to its input's size
        return None
    return scalable if mask.shape == (1, size, size, 1) else None
