"""A mask model as functions in a graph, with what comes before and after the network inside."""

import re

import keras
import numpy as np
import tensorflow as tf

from casm_tf import decoding, tensor_boxes
from casm_tf.networks.layers import OpenUpSampling2D

STRIDE = 32  # of every network's coarsest map


def servable(model, labels, mean, std, weights="float32"):
    """A tf.Module of a model's weights, by their paths, and the signatures {name: function}.

    `export.export_model` tells of the arguments and of the signatures. Keras's ExportArchive would
    write every weight twice, the second time as a Keras variable.
    """
    image_size = model.input_shape[1]
    module = tf.Module()
    module.weights = {v.path: _kept(v.value, weights) for v in model.variables}
    if len(module.weights) < len(model.variables):
        raise ValueError("two weights of the model have one name")
    scalable = _of_any_size(model)
    look = _looking(scalable or model, module.weights, labels, mean, std)

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
    return module, {**signatures, "any_size": of_any_size} if scalable else signatures


def read_weights(directory):
    """The weights of an exported model: {path of the Keras variable: float32 array}.

    A path is such as "block3_expand/kernel": layers whose names are in another network too can take
    them from here. Raises ValueError where there is no exported mask model.
    """
    prefix, suffix = "weights/", "/.ATTRIBUTES/VARIABLE_VALUE"
    try:
        checkpoint = tf.train.load_checkpoint(f"{directory}/variables/variables")
        found = {}
        for key in checkpoint.get_variable_to_shape_map():
            if key.startswith(prefix) and key.endswith(suffix):
                # Slashes and dots in a name are escaped in TensorFlow's checkpoints.
                path = key[len(prefix) : -len(suffix)]
                path = re.sub(r"\.[S.]", lambda x: "/" if x[0] == ".S" else ".", path)
                found[path] = np.asarray(checkpoint.get_tensor(key), np.float32)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise ValueError(f"{directory} has no weights that can be read") from error
    if not found:
        raise ValueError(f"{directory} has no weights by their names; it was exported otherwise")
    return found


def _images(size):
    return tf.TensorSpec((None, size, size, 3), tf.float32, name="images")


def _kept(variable, weights):
    """A weight as the file has it: kernels may be in float16, what normalizes is in float32."""
    if weights == "float32" or len(variable.shape) < 2:
        return variable
    return tf.Variable(tf.cast(variable, tf.float16), trainable=variable.trainable)


def _looking(network, weights, labels, mean, std):
    """Images with pixels from 0 to 255 -> mask, box, probabilities and label, in a graph.

    It is a function of its own, so that what the signatures share is written once.
    """
    mean, std = np.float32(mean), np.float32(std)
    names = list(labels)

    @tf.function(input_signature=[_images(network.input_shape[1])])
    def look(images):
        # A cast of float16 takes 3 ms a call for five million weights.
        trainable, others = (
            [tf.cast(weights[v.path], v.dtype) for v in variables]
            for variables in (network.trainable_variables, network.non_trainable_variables)
        )
        images = (images / 255 - mean) / std
        outputs, _ = network.stateless_call(trainable, others, images, training=False)
        probabilities = tf.nn.softmax(outputs["logits"])
        return {
            "mask": outputs["mask"],
            "box": tensor_boxes.predict_boxes(outputs["mask"][..., 0]),
            "probabilities": probabilities,
            "label": tf.gather(tf.constant(names), tf.argmax(probabilities, axis=1)),
        }

    return look


def _of_any_size(model):
    """A model with the same layers that takes square images of any multiple of 32 pixels a side.

    None where a layer's weights depend on the size, or the mask would not be as large as the image.
    """
    size = 2 * STRIDE if model.input_shape[1] == STRIDE else STRIDE
    try:
        scalable = _on_open_inputs(model)
        mask = scalable(tf.zeros((1, size, size, 3)), training=False)["mask"]
    except (ValueError, TypeError, tf.errors.OpError):  # a layer that is held to its input's size
        return None
    return scalable if mask.shape == (1, size, size, 1) else None


def _on_open_inputs(model):
    """The same layers, not copies, on inputs whose height and width are left open."""
    inputs = [keras.Input((None, None, x.shape[-1]), name=x.name) for x in model.inputs]
    return keras.models.clone_model(
        model, inputs if len(inputs) > 1 else inputs[0], clone_function=_opened
    )


def _opened(layer):
    if isinstance(layer, keras.Model):
        return _on_open_inputs(layer)
    if isinstance(layer, keras.layers.UpSampling2D):
        return OpenUpSampling2D.from_config(layer.get_config())
    return layer
