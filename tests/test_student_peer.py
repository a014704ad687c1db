"""The student's decoder and its training step against the same in PyTorch."""

import json

import numpy as np
import programs
import pytest

from casm_tf import networks
from casm_tf.networks import conversion

CHANNELS = 16, 24, 40, 112, 320


@pytest.mark.parametrize("training", [True, False])
def test_the_fine_decoder_answers_as_pytorchs(training):
    torch = pytest.importorskip("torch")
    from benchmarks import torch_networks

    torch.manual_seed(0)
    theirs = torch_networks.FineDecoder(CHANNELS)
    maps = [torch.randn(2, x, 32 >> level, 32 >> level) for level, x in enumerate(CHANNELS)]
    with torch.no_grad():
        theirs(maps)  # else its statistics are 0 and 1
        state = {name: x.numpy().copy() for name, x in theirs.state_dict().items() if x.ndim}
        expected = theirs.train(training)(maps).numpy().transpose(0, 2, 3, 1)

    maps = [x.numpy().transpose(0, 2, 3, 1) for x in maps]
    ours = networks.fine_decoder([x.shape[1:] for x in maps], 64)
    conversion.fill(conversion.torch_variables(ours, {}), state, {1: (0,), 4: (2, 3, 1, 0)})
    opened = networks.on_open_inputs(ours)  # as the student calls it
    assert expected.std() > 0.01
    assert ours.count_params() == sum(np.size(x) for x in state.values())
    for decoder in (ours, opened):
        assert decoder(maps, training=training).numpy() == pytest.approx(expected, abs=1e-4)


def test_the_benchmarks_steps_are_the_same():
    pytest.importorskip("torch")
    options = ("--batch_size=4", "--image_size=64", "--rounds=1", "--threads=1")
    done = programs.call("benchmarks.student_step", *options, eager=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    ours, theirs = (found["losses"][name] for name in ("casm_tf", "torch"))
    assert ours[0] == pytest.approx(theirs[0], abs=1e-4)
    assert ours[1] == pytest.approx(theirs[1], rel=1e-3)  # after a step of Adam's
    assert found["parameters"]["casm_tf"] == found["parameters"]["torch"]
