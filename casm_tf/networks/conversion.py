"""Weights of other people's networks as ours: torchvision's, Keras's, the original code's."""

import argparse
import re

import h5py
import numpy as np

from casm_tf import networks
from casm_tf.host import archives
from casm_tf.networks import efficientnet_lite

_IMAGE_SIZE = 224
# A file's axes in our order: torch's OIHW -> HWIO and [outputs, inputs] -> [inputs, outputs].
_FROM_TORCH = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
_FROM_KERAS = {1: (0,), 2: (0, 1), 4: (0, 1, 2, 3)}
# Our layers' names -> torchvision's and the original decoder's.
_TORCH_LAYERS = {
    r"^layer(\d)_(\d+)_downsample_(\d)$": r"layer\1.\2.downsample.\3",
    r"^layer(\d)_(\d+)_(\w+)$": r"layer\1.\2.\3",
    r"^conv1x1_(\d)$": r"conv1x1_\1.0",
    r"^bn_(\d)$": r"conv1x1_\1.1",
    r"^final$": "final.0",
}
# Our layers' names -> those of EfficientNet-Lite's PyTorch package.
_LITE_LAYERS = {
    r"^block(\d+)_(expand|depthwise|project)$": r"_blocks.\1._\2_conv",
    r"^block(\d+)_expand_bn$": r"_blocks.\1._bn0",
    r"^block(\d+)_depthwise_bn$": r"_blocks.\1._bn1",
    r"^block(\d+)_project_bn$": r"_blocks.\1._bn2",
    r"^(stem|head)$": r"_conv_\1",
    r"^stem_bn$": "_bn0",
    r"^head_bn$": "_bn1",
    r"^fc$": "_fc",
}
_NORMALIZATION = ("gamma", "beta", "moving_mean", "moving_variance")
_TORCH_VARIABLES = {
    **dict(zip(_NORMALIZATION, ("weight", "bias", "running_mean", "running_var"), strict=True)),
    **{"kernel": "weight", "bias": "bias"},
}


def filled_classifier(architecture, state):
    """A classifier with the weights of a state dict, its number of classes that of the weights.

    The state is {name in the file: float32 numpy array}. Raises ValueError where `fill` does.
    """
    # Without a head any number of classes will do: `fill` tells that it is missing.
    heads = ("fc.bias", "_fc.bias", "predictions/bias")
    head = next((state[name] for name in heads if name in state), 0)
    classifier = networks.classifier(architecture, _IMAGE_SIZE, int(np.size(head)))
    if architecture == "keras_resnet50":
        fill(keras_variables(classifier), state, _FROM_KERAS)
    elif architecture in efficientnet_lite.SCALES:
        # torch's [channels, 1, H, W] of a depthwise kernel is Keras's [H, W, channels, 1].
        state = {
            name: array.swapaxes(0, 1) if name.endswith("_depthwise_conv.weight") else array
            for name, array in state.items()
        }
        fill(torch_variables(classifier, _LITE_LAYERS), state, _FROM_TORCH)
    else:
        fill(torch_variables(classifier), state, _FROM_TORCH)
    return classifier


def filled_decoder(classifier, state):
    """The original's decoder for a classifier, with a state dict's weights; raises as `fill`."""
    decoder = networks.decoder(networks.map_shapes(classifier), _IMAGE_SIZE)
    fill(torch_variables(decoder), state, _FROM_TORCH)
    return decoder


def torch_variables(model, layers=_TORCH_LAYERS):
    """{name in a torch state dict: variable} of a classifier or decoder.

    `layers` are the patterns of our layers' names and what stands for them there.
    """
    named = {}
    for layer in model.layers:
        module = layer.name
        for pattern, replacement in layers.items():
            module = re.sub(pattern, replacement, module)
        named |= {f"{module}.{_TORCH_VARIABLES[v.name]}": v for v in layer.variables}
    return named


def keras_variables(model):
    """{layer/variable: variable}, the names that `read_keras` gives."""
    return {f"{layer.name}/{v.name}": v for layer in model.layers for v in layer.variables}


def fill(variables, state, axes):
    """Give each variable the array of its name.

    Args:
        variables: {name: variable}.
        state: {name: float32 numpy array}.
        axes: {number of dimensions: an array's axes in the variable's order}.

    Raises:
        ValueError: names are missing or left over, or arrays have another shape or are not finite;
            then no variable has been changed.
    """
    wrong = {"missing": [], "left over": [], "of another shape": [], "not finite": []}
    wrong["left over"] = [name for name in state if name not in variables]
    for name, variable in variables.items():
        expected = tuple(variable.shape[axis] for axis in np.argsort(axes[len(variable.shape)]))
        if name not in state:
            wrong["missing"].append(name)
        elif state[name].shape != expected:
            found = f"{name} {state[name].shape} instead of {expected}"
            wrong["of another shape"].append(found)
        elif not np.isfinite(state[name]).all():
            wrong["not finite"].append(name)
    if any(wrong.values()):
        raise ValueError("; ".join(f"{what}: {_first(of)}" for what, of in wrong.items() if of))
    for name, variable in variables.items():
        variable.assign(np.transpose(state[name], axes[state[name].ndim]))


def state_dicts(loaded):
    """The weights in what `read_torch` gives.

    That is a state dict, a dict with one as "state_dict" or "model", or the original's checkpoint.

    Returns:
        {"classifier" and, of the original, "decoder": {name: float32 numpy array}}, the names
        without `module.`; and a list of what else there was.

    Raises ValueError for what is none of these.
    """
    loaded = _named(loaded)
    parts = [
        part for name in loaded if (part := re.search("state_dict_(classifier|decoder)", name))
    ]
    chosen = {part[1]: part.string for part in parts}
    if parts and not len(parts) == len(chosen) == 2:
        found = ", ".join(part.string for part in parts)
        raise ValueError(f"one state_dict_classifier and one state_dict_decoder; found {found}")
    for name in ("state_dict", "model"):
        if not chosen and name in loaded:
            chosen = {"classifier": name}
    left_out = [name for name in loaded if name not in chosen.values()] if chosen else []
    states = {part: _named(loaded[name]) for part, name in chosen.items()}
    counters = 0
    for part, state in (states or {"classifier": loaded}).items():
        # Only where all names have it, so that no two become one.
        prefix = "module." if all(name.startswith("module.") for name in state) else ""
        arrays = {name.removeprefix(prefix): _array(name, state[name]) for name in state}
        # PyTorch counts batches for BatchNorm without a momentum; here it has one.
        states[part] = {n: a for n, a in arrays.items() if not n.endswith(".num_batches_tracked")}
        counters += len(arrays) - len(states[part])
    return states, left_out + [f"{counters} num_batches_tracked counters"] * (counters > 0)


def read_torch(path):
    """What a torch or .safetensors file holds; nothing in it is run.

    Raises ValueError for a damaged file or one of more than plain values, and ImportError where
    the package for it is not installed.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file
        else:
            from torch import load, serialization
    except ImportError as error:
        raise ImportError(f"for {path}: pip install 'casm_tf[convert]' ({error})") from error
    archives.check_zip(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # The original saves its command's arguments too; a Namespace does nothing.
        with serialization.safe_globals([argparse.Namespace]):
            return load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes them raise anything
        asked = re.search(r"GLOBAL (\S+)", str(error))
        found = f"it asks for {asked[1]}" if asked else f"{type(error).__name__} in reading it"
        raise ValueError(f"{path} is to hold plain weights; found: {found}") from error


def read_keras(path):
    """{layer/variable: float32 numpy array} of a .h5 or .weights.h5 file of Keras's ResNet50.

    Raises OSError for a file that is not whole HDF5, ValueError for one that unpacks to more than
    `archives.MAX_BYTES`.
    """
    arrays, size = {}, 0

    def take(name, item):
        nonlocal size
        if isinstance(item, h5py.Dataset):
            size += 4 * item.size
            archives.check_size(path, size)
            *_, layer, variable = f"/{name}".split("/")
            if layer == "vars":  # .weights.h5 numbers them; the layer's name stands beside them
                layer = item.parent.attrs.get("name", name)
                names = _NORMALIZATION if len(item.parent) == 4 else ("kernel", "bias")
                variable = dict(zip("0123", names, strict=False)).get(variable, variable)
            layer = "predictions" if layer == "probs" else layer  # its name in keras_applications
            short = f"{layer}/{variable.removesuffix(':0')}"
            # An optimizer's arrays may be called as the weights; they come later.
            arrays[name if short in arrays else short] = np.asarray(item, np.float32)

    try:
        with h5py.File(path) as file:
            file.visititems(take)
    except (OSError, RuntimeError, KeyError) as error:
        raise OSError(f"{path} is to be a whole HDF5 file") from error
    return arrays


def _first(names):
    return ", ".join(names[:10]) + f" and {len(names) - 10} more" * (len(names) > 10)


def _named(state):
    if not isinstance(state, dict):
        raise ValueError(f"a dict of weights is expected; found a {type(state).__name__}")
    return {str(name): value for name, value in state.items()}


def _array(name, value):
    if not hasattr(value, "shape"):
        raise ValueError(f"{name} is to be a tensor; found a {type(value).__name__}")
    if hasattr(value, "detach"):
        value = value.detach().float().numpy()  # numpy has no bfloat16
    return np.asarray(value, np.float32)
