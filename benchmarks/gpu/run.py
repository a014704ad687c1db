"""Exported steps on this machine's device, in JAX: python -m benchmarks.gpu.run NAME.json...

A file with a reference is checked: what the step did to every part of its state against what
TensorFlow's did. The others are timed. The last line is {NAME: {"differences": {part: a share}} or
{"seconds", "images_per_second", "teraflops": of one step, "share_of_matmul": of what the device
does in matrix products of that precision, "peak_gigabytes": null where the device does not say}}.
The exit code is 1 where a step differs by more than rounding does. It takes jax and numpy alone.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import statistics
import time

import jax
import numpy as np
from jax import export
from jax.extend import mlir
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters.mlir import make_ir_context

from benchmarks.gpu import programs

jax.config.update("jax_enable_x64", True)  # a step counts in int64
# How far rounding may carry the averages, and the rest of the state, as a share of the change.
# Random weights magnify it: a ResNet-50's gradients in float32 are 0.12 from TensorFlow's on a CPU,
# and in bfloat16 an EfficientNet-Lite0's optimizer differs by more than its change. There the
# averages alone are held to theirs.
_TOLERANCES = {"float32": (0.01, 0.3), "mixed_bfloat16": (0.05, math.inf)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", metavar="NAME.json")
    parser.add_argument("--steps", type=int, default=20, help="Timed, after three that are not.")
    parser.add_argument("--matmul_size", type=int, default=8192, help="Rows of a matrix.")
    options = parser.parse_args()
    found, is_right = {}, True
    for path in map(pathlib.Path, options.files):
        description, text = programs.read(path)
        if description["reference"]:
            figures = {"differences": checked(description, text)}
            averages, rest = _TOLERANCES[description["precision"]]
            is_right &= all(
                share <= (averages if part == "averages" else rest)
                for part, share in figures["differences"].items()
            )
        else:
            figures = timed(description, text, options.steps, options.matmul_size)
        found[path.stem] = figures
        print(path.stem, json.dumps(figures), flush=True)
    print(json.dumps(found))
    return 0 if is_right else 1


def step_of(description, text):
    """The program as a jitted function: all inputs -> all outputs. It takes the state's memory."""
    with make_ir_context():
        module = ir.Module.parse(text)
        artifact = mlir.serialize_portable_artifact(module, stablehlo.get_current_version())
    inputs, outputs = (
        [jax.ShapeDtypeStruct(x["shape"], x["dtype"]) for x in description[kind]]
        for kind in ("inputs", "outputs")
    )

    def zeros(*_):
        return tuple(jax.numpy.zeros(x.shape, x.dtype) for x in outputs)

    # JAX's own wrapping of another program with these inputs and outputs, with ours inside.
    wrapped = export.export(jax.jit(zeros, keep_unused=True))(*inputs)
    wrapped = dataclasses.replace(wrapped, mlir_module_serialized=artifact)
    given = tuple(number for number, _ in description["state"])
    return jax.jit(wrapped.call, donate_argnums=given)


def checked(description, text):
    """How far one step's changes are from the reference's, by part."""
    before = programs.numbers(description)
    outputs = step_of(description, text)(*map(jax.numpy.asarray, before))
    after = dict(enumerate(map(np.asarray, outputs)))
    return programs.differences(description, programs.changes(description, before, after))


def timed(description, text, steps, matmul_size):
    """The figures of the last line."""
    arrays = [jax.device_put(array) for array in programs.numbers(description)]
    lowered = step_of(description, text).lower(*arrays)
    step = lowered.compile()
    seconds = []
    for _ in range(steps + 3):
        start = time.perf_counter()
        outputs = step(*arrays)
        for number, output in description["state"]:
            arrays[number] = outputs[output]
        jax.block_until_ready(outputs)
        seconds.append(time.perf_counter() - start)
    seconds = statistics.median(seconds[3:])
    stats = arrays[0].device.memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    # Of the program as it was exported: what a compiler makes of it may not be counted whole.
    flops = (lowered.cost_analysis() or {}).get("flops")
    del arrays, outputs
    rate = _matmul_rate(description["precision"], matmul_size)
    return {
        "device": jax.devices()[0].device_kind,
        "seconds": seconds,
        "images_per_second": description["batch_size"] / seconds,
        "teraflops": flops and flops / 1e12,
        "share_of_matmul": flops and flops / seconds / rate,
        "matmul_teraflops_per_second": rate / 1e12,
        "peak_gigabytes": peak and peak / 1e9,
    }


def _matmul_rate(precision, size):
    """Operations a second of a matrix product, as precise as the steps'."""
    dtype = "float32" if precision == "float32" else "bfloat16"
    matrix = jax.numpy.ones((size, size), dtype)
    product = jax.jit(jax.numpy.matmul)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


if __name__ == "__main__":
    raise SystemExit(main())
