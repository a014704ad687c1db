"""The exported model without pictures, and what is said when one is loaded."""

import exports
import programs
import pytest
import tensorflow as tf


@pytest.fixture(scope="module")
def signatures(tmp_path_factory):
    model = tf.saved_model.load(
        str(exports.export_tiny(tmp_path_factory.mktemp("serving") / "casm"))
    )
    yield model.signatures  # the model has to live as long as they are called


def export_and_load_an_own_gradient(directory):
    module = tf.Module()
    own = tf.custom_gradient(lambda x: (2 * x, lambda upstream: upstream))
    module.call = tf.function(own, input_signature=[tf.TensorSpec(())])
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(directory), options=options)
    tf.saved_model.load(str(directory))


def test_nothing_is_said_of_gradients_that_an_exported_model_does_not_need(tmp_path):
    done = programs.fork(export_and_load_an_own_gradient, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        ("serving_default", {"images": tf.zeros((0, 32, 32, 3))}),
        ("image_bytes", {"image_bytes": tf.zeros((0,), tf.string)}),
        ("mask_png_bytes", {"image_bytes": tf.zeros((0,), tf.string)}),
        ("any_size", {"images": tf.zeros((0, 64, 64, 3))}),
    ],
)
def test_an_empty_batch_gives_empty_outputs(signatures, signature, inputs):
    found = {name: tuple(value.shape) for name, value in signatures[signature](**inputs).items()}
    side = 64 if signature == "any_size" else 32
    mask = {"mask_png_bytes": (0,)} if "png" in signature else {"mask": (0, side, side, 1)}
    assert found == {"box": (0, 4), "probabilities": (0, 3), "label": (0,)} | mask
