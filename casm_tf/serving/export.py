"""A mask model as TensorFlow Serving takes it: {directory}/{version}/, a SavedModel.

docs/serving.md tells of its signatures.
"""

import contextlib
import json
import pathlib
import shutil

import keras
import numpy as np
import tensorflow as tf

from casm_tf.host import files
from casm_tf.networks import layers
from casm_tf.serving.mask_model import DESCRIPTION, newest_version
from casm_tf.serving.servable import PLACES, checked_size, servable

WARMUP = "assets.extra/tf_serving_warmup_requests"


def export_model(
    model,
    directory,
    labels,
    mean,
    std,
    metrics=None,
    precision="float32",
    weights="float32",
    trained_on=None,
):
    """Write a mask model as a SavedModel with what comes before and after the network inside.

    `servable.read_weights` reads the weights back. `casm.json` in assets.extra has the labels,
    image_size, mean, std, metrics and trained_on. Where the package tensorflow-serving-api is
    installed, there are also requests for TensorFlow Serving to warm up with, one a signature. The
    version is there when it is complete, or not.

    Args:
        model: a run's model.keras: normalised images float32 [B, S, S, 3] -> {"mask", "logits"}.
        directory: the served model's, with a directory for each version.
        labels: the K classes' names.
        mean, std: of the training pixels in [0, 1], red, green and blue.
        metrics: anything that JSON holds, such as the test split's LE.
        precision: what the network computes in, "float32" or "bfloat16"; weights, masks and
            probabilities stay in float32. A model trained in mixed_bfloat16 is in bfloat16 anyway.
        weights: what the kernels are in the file, "float32" or, at half the length, "float16".
        trained_on: the data set's name.

    Returns:
        The version's path.

    Raises:
        ValueError: the arguments do not fit together.
        OSError: not all can be written, or another process has made the version meanwhile.
    """
    directory = pathlib.Path(directory)
    image_size = checked_size(model, labels, mean, std)
    path = directory / str(newest_version(directory) + 1)
    description = {
        "labels": list(labels),
        "image_size": image_size,
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
        "metrics": {} if metrics is None else metrics,
        "trained_on": trained_on,
    }
    description = json.dumps(description, indent=2) + "\n"

    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with _unfinished(path) as unfinished, _computing_in(model, precision):
        module, signatures, places = servable(model, labels, mean, std, weights)
        tf.saved_model.save(module, str(unfinished), signatures, options)
        (unfinished / DESCRIPTION).parent.mkdir()
        (unfinished / DESCRIPTION).write_text(description)
        (unfinished / PLACES).write_text(json.dumps(places) + "\n")
        _write_warmup(unfinished / WARMUP, directory.name, image_size, signatures)
    return path


def push(exported, directory):
    """Copy an exported version into a served model's directory as its next version.

    The version is there when it is complete, or not. Returns its path. Raises what `export_model`
    raises.
    """
    exported = pathlib.Path(exported)
    if not (exported / "saved_model.pb").exists():
        raise ValueError(f"{exported} has no saved_model.pb")
    path = pathlib.Path(directory) / str(newest_version(directory) + 1)
    with _unfinished(path) as unfinished:
        shutil.copytree(exported, unfinished)
    return path


@contextlib.contextmanager
def _unfinished(path):
    """A path to write a version at, that takes its name `path` once all is written."""
    files.check_writable(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    # TensorFlow Serving passes over names that are no numbers.
    with files.unfinished(path.parent) as folder:
        unfinished = folder / path.name
        try:
            yield unfinished
        except tf.errors.OpError as error:  # TensorFlow's own kind, for a full disk too
            raise OSError(f"{path} could not be written: {error.message}") from error
        except shutil.Error as error:  # of many files, each with its reason
            reason = error.args[0][0][-1]
            raise OSError(f"{path} could not be written: {reason}") from error
        try:
            unfinished.rename(path)
        except OSError as error:  # another process was faster
            raise FileExistsError(f"version {path.name} is in {path.parent} already") from error


# What networks/ keeps in float32 in mixed precision.
_IN_FLOAT32 = (
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.Rescaling,
    keras.layers.UpSampling2D,
    layers.Enlargement,
    layers.Smoothing,
)


@contextlib.contextmanager
def _computing_in(model, precision):
    """Let a model's layers compute in bfloat16, as training in mixed_bfloat16 does, for a while."""
    if precision == "float32":
        yield
        return
    parts = [model, *(layer for layer in model.layers if isinstance(layer, keras.Model))]
    changed = [
        layer for part in parts for layer in part.layers if not isinstance(layer, _IN_FLOAT32)
    ]
    before = [layer.dtype_policy for layer in changed]
    for layer in changed:
        layer.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
    try:
        yield
    finally:
        for layer, policy in zip(changed, before, strict=True):
            layer.dtype_policy = policy


def _write_warmup(path, name, image_size, signatures):
    """Write a request a signature, a black picture each, if tensorflow-serving-api is there."""
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError:
        return
    # One value that stands for all, not a megabyte of them.
    black = tf.make_tensor_proto(0.0, shape=(1, image_size, image_size, 3))
    black_bytes = tf.io.encode_jpeg(np.zeros((image_size, image_size, 3), np.uint8)).numpy()
    jpeg = tf.make_tensor_proto([black_bytes])
    inputs = {
        "serving_default": {"images": black},
        "image_bytes": {"image_bytes": jpeg},
        "mask_png_bytes": {"image_bytes": jpeg},
        "any_size": {"images": black},
    }
    with tf.io.TFRecordWriter(str(path)) as records:
        for signature in signatures:
            tensors = inputs[signature]
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for key, tensor in tensors.items():
                request.inputs[key].CopyFrom(tensor)
            records.write(log.SerializeToString())
