"""Files of weights and the program that converts them: what is read, and what is refused."""

import argparse
import collections
import os
import pathlib
import pickle
import sys

import keras
import numpy as np
import parity
import programs
import pytest

from casm_tf import networks
from casm_tf.networks import conversion


class Harmful:
    """Makes a file when it is unpickled the trusting way."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_harmful_pickle_is_refused_and_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    harm, path = tmp_path / "harm", tmp_path / "weights.pth"
    torch.save({"conv1.weight": Harmful(harm)}, path)
    with pytest.raises(ValueError, match=r"found: it asks for posix\.mkdir"):
        conversion.read_torch(path)
    path.write_bytes(pickle.dumps({"conv1.weight": Harmful(harm)}, protocol=2))
    with pytest.raises(ValueError, match="is to hold plain weights"):
        conversion.read_torch(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match=r"it asks for torch\.nn\.modules\.linear\.Linear"):
        conversion.read_torch(path)
    assert not harm.exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_damaged_files_are_refused(name, tmp_path):
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    path, state = tmp_path / name, {"fc.bias": torch.ones(1000)}
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.save_file(state, path)
    for content in (path.read_bytes()[:1000], b"no weights", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is to hold plain weights; found: .* in reading it"):
            conversion.read_torch(path)


def test_half_precision_becomes_float32(tmp_path):
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    state = {"a": torch.full((2,), 1.5).bfloat16(), "b": torch.full((2,), 0.5).half()}
    torch.save(state, tmp_path / "weights.pt")
    safetensors.save_file(state, tmp_path / "weights.safetensors")
    for name in ("weights.pt", "weights.safetensors"):
        states, _ = conversion.state_dicts(conversion.read_torch(tmp_path / name))
        assert {name: a.dtype for name, a in states["classifier"].items()} == dict.fromkeys(
            "ab", np.float32
        )
        assert states["classifier"]["a"].tolist() == [1.5, 1.5]


def call(*arguments):
    return programs.call("casm_tf.convert", *arguments)


def test_an_original_checkpoint_becomes_a_mask_model(tmp_path):
    torch = pytest.importorskip("torch")
    from benchmarks import torch_networks

    pair = torch_networks.Pair("resnet18", 4)
    module = collections.OrderedDict(
        (f"module.{name}", value) for name, value in pair.classifier.state_dict().items()
    )
    checkpoint = {
        "epoch": 60,
        "state_dict_classifier": module,
        "state_dict_decoder": pair.decoder.state_dict(),
        "args": argparse.Namespace(lr=0.001, name="casm"),
    }
    torch.save(checkpoint, tmp_path / "casm.chk")
    made = tmp_path / "new" / "casm"
    flags = (f"--weights={tmp_path / 'casm.chk'}", f"--output={made}")
    done = call(*flags, "--architecture=resnet18")
    assert done.returncode == 0, done.stderr
    assert "left out  epoch, args, 24 num_batches_tracked counters\n" in done.stdout
    assert sorted(path.name for path in made.iterdir()) == ["classifier.weights.h5", "model.keras"]
    images, _, _ = parity.batch()
    model = keras.models.load_model(made / "model.keras", compile=False)
    outputs = model(images)
    logits, masks = pair.answers(images)
    assert outputs["logits"].numpy() == pytest.approx(logits, abs=1e-4)
    assert outputs["mask"].numpy() == pytest.approx(masks, abs=1e-4)
    classifier = networks.classifier("resnet18", 224, 4)
    networks.load_weights(classifier, made / "classifier.weights.h5")
    assert classifier(images)["logits"].numpy() == pytest.approx(logits, abs=1e-4)

    refused = call(*flags, "--architecture=resnet34")
    programs.assert_refused(refused, "--weights: missing: layer1.2.conv1.weight, ")
    assert len(list(made.iterdir())) == 2


def test_a_safetensors_file_becomes_weights_to_train_with(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    state = parity.random_of(networks.classifier("resnet18", 32, 4), 0)
    safetensors.save_file(state, tmp_path / "resnet18.safetensors")
    made = tmp_path / "resnet18.weights.h5"
    where = (f"--weights={tmp_path / 'resnet18.safetensors'}", "--architecture=resnet18")
    done = call(*where, f"--output={made}")
    assert done.returncode == 0, done.stderr
    assert f"made  {made}: resnet18 for 4 classes" in done.stdout
    classifier = networks.classifier("resnet18", 32, 4)
    networks.load_weights(classifier, made)
    assert all(np.array_equal(state[n], a) for n, a in parity.state_dict(classifier).items())
    programs.assert_refused(
        call(*where, f"--output={tmp_path / 'made.h5'}"), "--output: a name that ends"
    )
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".h5", ".safetensors"]


@pytest.mark.parametrize(
    ("package", "name"), [("torch", "a.pth.tar"), ("safetensors", "a.safetensors")]
)
def test_without_its_package_a_file_is_refused(package, name, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # so that importing it fails
    monkeypatch.setitem(sys.modules, f"{package}.numpy", None)
    with pytest.raises(ImportError, match=r"pip install 'casm_tf\[convert\]'"):
        conversion.read_torch(pathlib.Path(name))


def test_a_package_that_is_not_there_is_one_line(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')")
    (tmp_path / "a.pth").write_bytes(b"any")
    flags = (f"--weights={tmp_path / 'a.pth'}", f"--output={tmp_path / 'a.weights.h5'}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = programs.run(programs.command("casm_tf.convert", *flags), env=environment)
    programs.assert_refused(done, "a.pth: pip install 'casm_tf[convert]' (no torch)")
    assert not (tmp_path / "a.weights.h5").exists()


def test_a_missing_file_is_refused(tmp_path):
    done = call(f"--weights={tmp_path / 'no.pth'}", f"--output={tmp_path / 'a.weights.h5'}")
    programs.assert_refused(done, f"--weights: there is no file {tmp_path / 'no.pth'}")
    assert not list(tmp_path.iterdir())


def test_a_pickle_is_refused_in_one_line(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"conv1.weight": Harmful(tmp_path / "harm")}, tmp_path / "a.pth")
    output = tmp_path / "new" / "a.weights.h5"
    done = call(f"--weights={tmp_path / 'a.pth'}", f"--output={output}")
    programs.assert_refused(done, "is to hold plain weights; found: it asks for posix.mkdir")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
