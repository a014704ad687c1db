"""Models that are made to do harm: refused in one line, and nothing of them is run."""

import json
import pathlib
import zipfile

import exports
import h5py
import keras
import mutations
import numpy as np
import programs
import pytest

from casm_tf import networks
from casm_tf.data import datasets
from casm_tf.evaluation import other_classifiers
from casm_tf.host import archives
from casm_tf.networks import conversion, keras_files
from casm_tf.serving import mask_model


def lambda_model(path):
    images = keras.Input((32, 32, 3))
    mask = keras.layers.Lambda(lambda x: __import__("pathlib").Path("hacked").touch() or x)(images)
    keras.Model(images, {"mask": mask[..., :1], "logits": mask[:, 0, 0]}).save(path)
    pathlib.Path("hacked").unlink()  # made here, where the layer is called


def _rewritten(path, change):
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in change(entries).items():
            archive.writestr(name, data)


def _with_lambda(path):
    lambda_model(path)


def _with_an_entry_outside(path):
    exports.tiny_model().save(path)
    _rewritten(path, lambda entries: {**entries, "assets/../../../hacked": b"text"})


def _with_a_class_of_another_module(path):
    exports.tiny_model().save(path)

    def change(entries):
        layer = {"module": "os", "class_name": "system", "config": {"command": "touch hacked"}}
        config = json.loads(entries["config.json"])
        config["config"]["layers"][1] |= layer
        return {**entries, "config.json": json.dumps(config)}

    _rewritten(path, change)


class Odd(keras.layers.Layer):
    def call(self, x):
        return x


def _with_a_layer_of_its_own(path):
    keras.Sequential([keras.Input((2,)), Odd()]).save(path)


def _with_zeros(path):
    exports.tiny_model().save(path)
    _rewritten(path, lambda entries: {**entries, "assets/zeros": bytes(2**22)})


def _cut_off(path):
    exports.tiny_model().save(path)
    path.write_bytes(path.read_bytes()[:-100])


HOSTILE_MODELS = {
    _with_lambda: "has code in it",
    _with_an_entry_outside: "has an entry that lies outside of it: 'assets/../../../hacked'",
    _with_a_class_of_another_module: "has a layer system, which neither Keras nor",
    _with_a_layer_of_its_own: "has a layer Odd, which neither Keras nor casm_tf knows",
    _with_zeros: "unpacks to .* bytes; expected at most 3000000",
    _cut_off: "is not a whole model",
}


@pytest.mark.parametrize("make", HOSTILE_MODELS, ids=lambda make: make.__name__)
def test_hostile_keras_files_are_refused_by_name(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(archives, "MAX_BYTES", 3_000_000)
    path = tmp_path / "model.keras"
    make(path)
    for load in (keras_files.load_keras, lambda path: other_classifiers.load(str(path), None)):
        with pytest.raises(ValueError, match=rf"model\.keras {HOSTILE_MODELS[make]}[^\n]*$"):
            load(path)
    assert not list(tmp_path.parent.rglob("hacked"))


@pytest.mark.parametrize(
    "module",
    [
        "components.pusher",
        "components.evaluator",
        "components.infra_validator",
    ],
)
def test_a_run_with_code_in_its_model_is_refused_in_one_line(
    module, tiny_data_dir, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    flags = {"dataset": "digit_scenes/tiny", "data_dir": str(tiny_data_dir)}
    flags["classifier"] = "small_resnet"
    (tmp_path / "run").mkdir()
    data = datasets.open_dataset("digit_scenes/tiny", str(tiny_data_dir)).description()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"flags": flags, **data}))
    lambda_model(tmp_path / "run" / "model.keras")
    outputs = {
        "components.pusher": ["--serving_dir=s"],
        "components.evaluator": ["--output_dir=o"],
        "components.infra_validator": ["--model=m", "--blessing=b"],
    }
    done = programs.call(module, f"--run_dir={tmp_path / 'run'}", *outputs[module], cwd=tmp_path)
    expected = f"--run_dir: {tmp_path / 'run' / 'model.keras'} has code in it"
    assert done.returncode == 2 and expected in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_weights_that_unpack_to_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 2**20)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("layer/kernel:0", (2**40,), "f4", chunks=(2**10,), compression="gzip")
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"a\.h5 unpacks to"):
        conversion.read_keras(path)
    pytest.importorskip("torch")
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(2**21))
    with pytest.raises(ValueError, match=r"a\.pth unpacks to"):
        conversion.read_torch(tmp_path / "a.pth")


def test_a_mutated_savedmodel_is_refused_in_one_line_or_loaded(tmp_path):
    exported = exports.export_tiny(tmp_path / "casm")
    draws = np.random.default_rng(0)
    refused = 0
    for part in ("saved_model.pb", "variables.index", "variables.data-00000-of-00001"):
        (path,) = exported.rglob(part)
        good = path.read_bytes()
        mutated = [mutations.mutated(good, draws) for _ in range(3)]
        for bad in (good[: len(good) // 2], b"", *mutated):
            path.write_bytes(bad)
            try:
                mask_model.MaskModel.load(exported)
            except ValueError as error:
                assert "casm/1 " in str(error)
                refused += 1
        path.write_bytes(good)
    assert refused >= 6


def test_mutated_weights_are_refused_by_name_or_loaded(tmp_path):
    model = networks.classifier("small_resnet", 32, 3)
    path = tmp_path / "a.weights.h5"
    model.save_weights(path)
    good, draws, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(30):
        path.write_bytes(mutations.mutated(good, draws))
        for read in (conversion.read_keras, lambda path: networks.load_weights(model, path)):
            try:
                read(path)
            except (ValueError, OSError) as error:
                assert str(path) in str(error) and "\n" not in str(error)
                refused += 1
    assert refused > 20
