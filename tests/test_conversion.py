"""State dicts of others: what is taken, what does not fit, and what of that is named."""

import argparse

import numpy as np
import parity
import pytest

from casm_tf import networks
from casm_tf.networks import conversion


@pytest.fixture
def tiny():
    """An architecture of four small bottlenecks, and a state dict of it with four classes."""
    networks.RESNETS["tiny"] = networks.ResNet((1, 1, 1, 1), widths=(4, 4, 8, 8), bottleneck=True)
    yield parity.random_of(networks.classifier("tiny", 32, 4), 0)
    del networks.RESNETS["tiny"]


def test_all_that_does_not_fit_is_named(tiny):
    del tiny["conv1.weight"], tiny["layer2.0.downsample.1.running_var"]
    tiny["fc.weight"] = tiny["fc.weight"][:, 1:]
    tiny["layer1.1.conv1.weight"] = tiny["layer1.0.conv1.weight"]
    tiny["bn1.bias"][0] = np.nan
    with pytest.raises(ValueError) as error:
        conversion.filled_classifier("tiny", tiny)
    assert str(error.value) == (
        "missing: conv1.weight, layer2.0.downsample.1.running_var; "
        "left over: layer1.1.conv1.weight; "
        "of another shape: fc.weight (4, 31) instead of (4, 32); "
        "not finite: bn1.bias"
    )


def test_of_many_ten_are_named_and_the_rest_counted(tiny):
    count = len(tiny)
    with pytest.raises(ValueError, match=rf"missing: conv1\.weight, .* and {count - 10} more$"):
        conversion.filled_classifier("tiny", {})
    with pytest.raises(ValueError, match=rf"left over: (\S+, ){{9}}\S+ and {count - 10} more$"):
        conversion.filled_classifier(
            "tiny", {**tiny, **{f"ema.{name}": tiny[name] for name in tiny}}
        )


def test_a_square_head_is_transposed_too(tiny):
    tiny["fc.weight"] = np.arange(32 * 32, dtype=np.float32).reshape(32, 32)
    tiny["fc.bias"] = np.zeros(32, np.float32)
    classifier = conversion.filled_classifier("tiny", tiny)
    assert np.array_equal(classifier.get_layer("fc").kernel, tiny["fc.weight"].T)


def test_nothing_is_changed_by_what_does_not_fit(tiny):
    classifier = conversion.filled_classifier("tiny", tiny)
    other = {name: array + 1 for name, array in tiny.items()}
    del other["fc.bias"]
    with pytest.raises(ValueError, match=r"missing: fc\.bias"):
        conversion.fill(conversion.torch_variables(classifier), other, conversion._FROM_TORCH)
    assert all(np.array_equal(tiny[n], a) for n, a in parity.state_dict(classifier).items())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_wrapped_state_dicts(prefix, wrapper):
    weight = np.ones(2, np.float32)
    state = {f"{prefix}bn1.weight": weight, f"{prefix}bn1.num_batches_tracked": np.int64(3)}
    loaded = state if wrapper is None else {"epoch": 1, wrapper: state, "arch": "resnet50"}
    states, left_out = conversion.state_dicts(loaded)
    assert states == {"classifier": {"bn1.weight": pytest.approx(weight)}}
    others = [] if wrapper is None else ["epoch", "arch"]
    assert left_out == [*others, "1 num_batches_tracked counters"]


def test_the_originals_checkpoint_is_taken_apart():
    one, two = np.ones(1, np.float32), np.zeros(1, np.float32)
    loaded = {
        "epoch": 60,
        "module.state_dict_classifier": {"module.fc.bias": one},
        "module.state_dict_decoder": {"final.0.bias": two},
        "args": argparse.Namespace(),
    }
    states, left_out = conversion.state_dicts(loaded)
    assert states == {"classifier": {"fc.bias": one}, "decoder": {"final.0.bias": two}}
    assert left_out == ["epoch", "args"]


def test_a_prefix_that_only_some_have_stays(tiny):
    states, _ = conversion.state_dicts({**tiny, "module.fc.bias": tiny["fc.bias"]})
    with pytest.raises(ValueError, match=r"^left over: module\.fc\.bias$"):
        conversion.filled_classifier("tiny", states["classifier"])


WRONG = {
    "a list": ([1], "a dict of weights is expected; found a list"),
    "a network": ({"state_dict": 3}, "a dict of weights is expected; found a int"),
    "a number": ({"fc.bias": 3}, "fc.bias is to be a tensor; found a int"),
    "half": ({"state_dict_classifier": {}}, "one state_dict_decoder; found state_dict_classifier"),
    "two": ({"state_dict_decoder": {}, "a_state_dict_decoder": {}}, "found state_dict_decoder, a_"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_state_dict_is_refused(what):
    loaded, expected = WRONG[what]
    with pytest.raises(ValueError, match=expected):
        conversion.state_dicts(loaded)
