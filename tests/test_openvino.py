"""The exported model in a runtime that is not TensorFlow's."""

import sys

import exports
import numpy as np
import programs
import pytest
import tensorflow as tf

pytest.importorskip("openvino")

# The box's loop and the labels' strings are TensorFlow's own: the mask and the probabilities are
# what another runtime is asked for.
CODE = """
import sys
import numpy as np
import openvino as ov

arrays = np.load(sys.argv[2])
model = ov.convert_model(sys.argv[1], output=["mask", "probabilities"])
compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
outputs = compiled([arrays["images"]])
np.savez(sys.argv[3], mask=outputs[0], probabilities=outputs[1])
assert not {"tensorflow", "keras", "casm_tf"} & set(sys.modules)
"""


def test_openvino_gives_tensorflows_masks(tmp_path):
    path = exports.export_tiny(tmp_path / "casm")
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    loaded = tf.saved_model.load(str(path))
    expected = loaded.signatures["serving_default"](images=images)
    np.savez(tmp_path / "images.npz", images=images)
    files = (tmp_path / "images.npz", tmp_path / "found.npz")
    done = programs.run([sys.executable, "-c", CODE, path, *files])
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    for name in ("mask", "probabilities"):
        assert found[name] == pytest.approx(expected[name].numpy(), abs=1e-4)
