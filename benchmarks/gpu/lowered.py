"""A training step of a model as a StableHLO program without variables."""

import re

import keras
import tensorflow as tf

from benchmarks.gpu import programs
from casm_tf import networks

CRITICS = ("present", "past")


class Step:
    """A model's `train_step` with a critic of a kind, as a program without variables.

    What the step reads of variables are the program's inputs after images and labels; what it
    writes there are its outputs after "finite".
    """

    def __init__(self, model, critic, batch_size):
        self.model = model
        size = model.classifier.input_shape[1]
        specs = [
            tf.TensorSpec((batch_size, size, size, 3), tf.float32),
            tf.TensorSpec((batch_size,), tf.int32),
        ]

        def step(images, labels):
            return model.train_step((images, labels), CRITICS.index(critic))["finite"]

        self.step = step
        self.batch = [
            {"name": "images", **_described(specs[0]), "mean": 0.0, "deviation": 1.0},
            {"name": "labels", **_described(specs[1]), "mean": 0, "deviation": 0.0},
        ]
        # XLA compiles nothing here: the program is what it would start from.
        function = tf.function(step, jit_compile=True)
        handles = function.get_concrete_function(*specs).captured_inputs
        found = _variables(model)
        self.variables = [found[id(handle)] for handle in handles]
        text = function.experimental_get_compiler_ir(*specs)(stage="stablehlo")
        self.state = _state(text)
        self.text = _clean(text)

    def write(self, path, about, with_reference):
        """Write the two files of a NAME.json; `about` comes first in it."""
        inputs = self.batch + [described for _, described in self.variables]
        outputs = [{"name": "finite", "shape": [], "dtype": "float32"}]
        outputs += [
            {key: inputs[number][key] for key in ("name", "shape", "dtype")}
            for number, _ in self.state
        ]
        parts = {"inputs": inputs, "outputs": outputs, "state": self.state}
        description = {**about, **parts, "reference": None}
        text = self.text
        if with_reference:
            description["reference"] = self._reference(description)
            text = re.sub(r"\bDEFAULT\b", "HIGHEST", text)
        programs.write(path, description, text)

    def _reference(self, description):
        """What TensorFlow does to the state, without XLA."""
        before = programs.numbers(description)
        for (variable, _), array in zip(self.variables, before[2:], strict=True):
            variable.assign(array)
        if not float(self.step(*map(tf.constant, before[:2]))):
            raise ValueError("the step was not finite")
        after = {output: self.variables[number - 2][0].numpy() for number, output in self.state}
        return programs.changes(description, before, after)


def _variables(model):
    """{id of a handle: (the variable, its description as an input)} of all that a step may read."""
    state = {**model.state}
    snapshots = state.pop("snapshots")
    state["averages"] = [x for average in model.averages.values() for x in average.variables]
    if model.teacher is not None:
        state["teacher"] = model.teacher.variables
    bias = networks.head(model.classifier).bias.path
    found = {}

    def add(name, variable, numbers):
        described = {"name": name, **_described(variable), **numbers}
        variable = variable.value if isinstance(variable, keras.Variable) else variable
        found[id(variable.handle)] = variable, described

    for part, variables in state.items():
        for variable in variables:
            add(f"{part}/{variable.path}", variable, _numbers(variable, variable.path == bias))
    count, *slots = snapshots
    add("snapshots/stored", count, {"mean": model.snapshots.capacity, "deviation": 0.0})
    weights = model.classifier.trainable_variables + model.classifier.non_trainable_variables
    for weight, slot in zip(weights, slots, strict=True):
        numbers = {**_numbers(weight, weight.path == bias), "copies": True}
        add(f"snapshots/{weight.path}", slot, numbers)
    return found


def _numbers(variable, is_bias):
    """What a variable is fed; see programs.numbers."""
    array = variable.numpy()
    if is_bias:
        # All classifiers find the labels, zeros, or the mask would have no gradient.
        return {"values": [5.0] + [0.0] * (array.size - 1)}
    return {"mean": array.mean().item(), "deviation": float(array.std())}


def _described(array):
    """The shape and type of what has them."""
    return {"shape": list(array.shape), "dtype": tf.as_dtype(array.dtype).name}


def _state(text):
    """Pairs [input, output], of which XLA would write the second over the first."""
    pairs = re.findall(r"parameter_number = (\d+) : i64}, output_index = array<i64: (\d+)>", text)
    pairs = [[int(number) for number in pair] for pair in pairs]
    if [output for _, output in pairs] != list(range(1, len(pairs) + 1)):
        raise ValueError("what the program writes is not what it reads")
    return pairs


def _clean(text):
    """StableHLO alone, from what TensorFlow 2.21 calls so."""
    text = re.sub(r"mhlo\.copy (%\w+) : (\S+)", r"stablehlo.reshape \1 : (\2) -> \2", text)
    return text.replace('"mhlo.copy"', '"stablehlo.reshape"')
