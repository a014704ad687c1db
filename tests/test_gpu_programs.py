"""benchmarks.gpu: a step as a program without variables, and what JAX makes of it."""

import json

import keras
import numpy as np
import pytest
import tiny_casm
from tiny_casm import tiny_resnet  # noqa: F401

from benchmarks.gpu import lowered, programs

ABOUT = {"classifier": "tiny", "precision": "mixed_bfloat16", "critic": "past", "batch_size": 2}


@pytest.fixture(scope="module")
def written(tmp_path_factory, tiny_resnet):  # noqa: F811
    """The path of a small step's description, with a past critic, in bfloat16."""
    keras.mixed_precision.set_global_policy(ABOUT["precision"])
    try:
        model = tiny_casm.make("L2", masked_steps="present")
    finally:
        keras.mixed_precision.set_global_policy("float32")
    path = tmp_path_factory.mktemp("gpu") / "step.json"
    lowered.Step(model, "past", ABOUT["batch_size"]).write(path, ABOUT, with_reference=True)
    return path


def test_a_step_is_a_program_with_its_state_as_inputs_and_outputs(written):
    description, text = programs.read(written)
    assert description["critic"] == "past"
    inputs, outputs = description["inputs"], description["outputs"]
    assert [x["name"] for x in inputs[:2]] == ["images", "labels"]
    assert inputs[0]["shape"] == [2, tiny_casm.SIZE, tiny_casm.SIZE, 3]
    assert outputs[0] == {"name": "finite", "shape": [], "dtype": "float32"}
    state = [inputs[number]["name"] for number, _ in description["state"]]
    assert [output["name"] for output in outputs[1:]] == state
    # A past critic is read and stays as it is.
    parts = {name.split("/")[0] for name in state}
    assert parts == {
        *("classifier", "decoder", "classifier_optimizer", "decoder_optimizer", "averages")
    }
    assert {x["name"].split("/")[0] for x in inputs[2:]} - parts == {"snapshots"}
    assert len(inputs) == 2 + len({x["name"] for x in inputs[2:]})
    main = text[text.index("main") :]
    assert "stablehlo.convolution" in main
    assert "mhlo.copy" not in text


def test_the_reference_is_a_step_that_learned(written):
    description, _ = programs.read(written)
    norms = [change[0] for change in description["reference"]]
    names = [description["inputs"][number]["name"] for number, _ in description["state"]]
    moved = {name for name, norm in zip(names, norms, strict=True) if norm > 0}
    still = {name for name in names if name not in moved}
    assert all(name.startswith("averages/") for name in still), still
    assert "averages/score/total" in moved


def test_the_numbers_are_as_described():
    inputs = [
        {"shape": [2, 3], "dtype": "float32", "mean": 1.0, "deviation": 2.0, "copies": True},
        {"shape": [], "dtype": "int64", "mean": 30, "deviation": 0.0},
        {"shape": [2], "dtype": "float32", "values": [5.0, 0.0]},
    ]
    copies, count, values = programs.numbers({"inputs": inputs})
    assert np.array_equal(copies[0], copies[1])
    assert copies[0] == pytest.approx([4.528105, 1.800314, 2.957476])  # of MT19937 at seed 0
    assert (count.dtype, count) == (np.int64, 30)
    assert values.tolist() == [5, 0]


def test_differences_are_shares_of_the_references_changes():
    inputs = [{"name": "images"}, {"name": "decoder/a"}, {"name": "decoder/b"}]
    description = {"inputs": inputs, "state": [[1, 1], [2, 2]]}
    before = [None, np.array([1.0, 2.0]), np.array(3)]
    description["reference"] = programs.changes(description, before, {1: [4, 6], 2: 3})
    assert description["reference"] == [[5, 3, 4], [0, 0]]
    found = programs.changes(description, before, {1: [1, 2], 2: 3})
    assert programs.differences(description, found) == {"decoder": pytest.approx(0.5**0.5)}


def test_jax_takes_the_same_step(written, capsys, monkeypatch):
    pytest.importorskip("jax")
    from benchmarks.gpu import run

    monkeypatch.setattr("sys.argv", ["run", str(written)])
    assert run.main() == 0
    differences = json.loads(capsys.readouterr().out.splitlines()[-1])["step"]["differences"]
    assert max(differences.values()) < 0.3
