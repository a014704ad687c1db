"""What a user's own settings of Keras do to the programs and the library: nothing, or a line."""

import json
import os
import sys

import pytest
from programs import assert_refused, command, run

_LOOK = """
import sys
from casm_tf import CASM, networks
import keras
config = keras.config
assert (config.backend(), config.floatx(), config.epsilon(), config.image_data_format()) == (
    "tensorflow", "float32", 1e-7, "channels_last"
)
classifier = networks.classifier("small_resnet", 32, 3)
assert classifier.output["logits"].shape == (None, 3)
assert {variable.dtype for variable in classifier.variables} == {"float32"}
"""


def environment(folder, text, **variables):
    (folder / "keras.json").write_text(text)
    return {**os.environ, "KERAS_HOME": str(folder), **variables}


@pytest.mark.parametrize(
    "variables",
    [
        {"KERAS_BACKEND": "nonsense"},
        pytest.param({"TF_USE_LEGACY_KERAS": "1"}, marks=pytest.mark.long),
    ],
)
def test_the_library_takes_what_it_needs(variables, tmp_path):
    settings = {"floatx": "float16", "epsilon": 1e-3, "image_data_format": "channels_first"}
    text = json.dumps(settings | {"backend": "jax"})
    done = run([sys.executable, "-c", _LOOK], env=environment(tmp_path, text, **variables))
    assert done.returncode == 0, done.stderr


def test_keras_on_another_backend_already_is_refused(monkeypatch):
    import importlib

    import keras

    from casm_tf import networks

    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(ImportError, match="import casm_tf before keras; found Keras on torch"):
        importlib.reload(networks)


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ('{"floatx": "bfloat16"}', {}),
        pytest.param("[]", {}, marks=pytest.mark.long),
        pytest.param('{"epsilon": "a"}', {}, marks=pytest.mark.long),
        pytest.param("{}", {"KERAS_NNX_ENABLED": "true"}, marks=pytest.mark.long),
    ],
)
def test_settings_that_keras_does_not_take_are_a_line(text, variables, tmp_path):
    given = ("--weights=a", "--output=b")
    done = run(command("casm_tf.convert", *given), env=environment(tmp_path, text, **variables))
    assert_refused(done, f"convert: {tmp_path / 'keras.json'} or a KERAS_ variable: Keras")


@pytest.mark.long  # two seconds of a process of its own
def test_a_mask_model_needs_none_of_them(tmp_path):
    look = "from casm_tf import MaskModel; import numpy; "
    look += "MaskModel.load()(numpy.zeros((9, 9, 3), numpy.uint8))"
    done = run([sys.executable, "-c", look], env=environment(tmp_path, '{"floatx": 1}'))
    assert done.returncode == 0, done.stderr
