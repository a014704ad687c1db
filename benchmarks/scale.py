"""What several devices cost here, and what they would give there: python -m benchmarks.scale

Measured: a step of ResNet-50 (224x224, 1,000 classes, thinning L100) on 1, 2 and 4 logical devices
of this machine's processor, and what of it is not the networks' passes: draws, checks, all-reduce,
clipping, optimizers, averages. And a checkpoint with 30 snapshots: how long it stops the training
and how much it slows the steps beside it.

Calculated, from those bytes and counts and from what is assumed of a GPU (flags): images a second
and hours for the paper's schedule on 1, 8 and 64 GPUs. A calculation, not a measurement.

The last line is {"overhead": {devices: share of a step}, "images_per_second": {devices: x},
"checkpoint": {"stops": s, "share": of the time at one every 400 steps}, "hours": {GPUs: h}}.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import casm_tf.host.quiet  # noqa: F401

# isort: split

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from casm_tf import networks
from casm_tf.casm import CASM
from casm_tf.cli import program
from casm_tf.thinning import Snapshots, Thinning
from casm_tf.training.checkpoints import Checkpoints

FLAGS = flags.FLAGS

flags.DEFINE_integer("batch_size", 32, "Images a step here, over all devices.", lower_bound=4)
flags.DEFINE_integer("rounds", 5, "Steps of each kind, after one that does not count.")
flags.DEFINE_integer("devices", 0, "Measure on so many alone; 0 measures all, and calculates.")
flags.DEFINE_float("gpu_tflops", 60, "Assumed: 10^12 operations a second that a GPU reaches.")
flags.DEFINE_float("gpu_memory", 1500, "Assumed: GB a second, read and written.")
flags.DEFINE_float("links", 150, "Assumed: GB a second between the 8 GPUs of a machine.")
flags.DEFINE_float("network", 12, "Assumed: GB a second between machines.")
flags.DEFINE_float("launch", 0.010, "Assumed: seconds a step that the GPU waits for the host.")
flags.DEFINE_float("input_rate", 736, "Images a second and core, of benchmarks.input_pipeline.")
flags.DEFINE_integer("cores", 12, "Assumed: processor cores a GPU.")

_CLASSES = 1000
_STEPS, _BATCH = 120_120, 128  # the original's: 60 epochs of a fifth of ImageNet
_CHECKPOINT_EVERY = 400
_SNAPSHOTS = 30
# Forward passes a step, a backward one counted as two: clean and masked, the critic's, theirs.
_PASSES = {"present": 7, "past": 5}
_GFLOP = 8.2  # of one forward pass of ResNet-50 on one image


def main():
    if FLAGS.devices:
        print(json.dumps(_measured(FLAGS.devices)))
        return
    print(f"A step of {FLAGS.batch_size} images on this processor (present and past critic, mean)")
    print(f"{'devices':>8}{'seconds':>10}{'networks':>10}{'images/s':>10}{'overhead':>10}")
    measured = {}
    for devices in (1, 2, 4):
        command = [sys.executable, "-m", "benchmarks.scale", *sys.argv[1:], f"--devices={devices}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        measured[devices] = found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{devices:8}{found['step']:10.2f}{found['networks']:10.2f}"
            f"{FLAGS.batch_size / found['step']:10.2f}{found['overhead']:10.3f}",
            flush=True,
        )
    checkpoint = measured[1]["checkpoint"]
    print(
        f"\nA checkpoint with {_SNAPSHOTS} snapshots ({checkpoint['bytes'] / 1e9:.1f} GB) stops "
        f"training for {checkpoint['stops']:.1f} s, is on disk after {checkpoint['written']:.0f} s "
        f"and slows the steps meanwhile by {checkpoint['slower']:.1f} s: {checkpoint['share']:.4f} "
        f"of the time at one every {_CHECKPOINT_EVERY} steps"
    )
    hours = {gpus: _calculated(gpus, measured[1]) for gpus in (1, 8, 64)}
    overhead = {devices: found["overhead"] for devices, found in measured.items()}
    rates = {devices: FLAGS.batch_size / found["step"] for devices, found in measured.items()}
    print(
        json.dumps(
            {
                "overhead": overhead,
                "images_per_second": rates,
                "checkpoint": checkpoint,
                "hours": hours,
            }
        )
    )


def _model(strategy, snapshots):
    with strategy.scope():
        classifier = networks.classifier("resnet50", 224, _CLASSES)
    thinning = Thinning.named("L100", capacity=snapshots)
    kept = Snapshots(classifier, thinning)
    for _ in range(snapshots):
        kept.store(classifier)
    with strategy.scope():
        decoder = networks.decoder(networks.map_shapes(classifier), 224)
        model = CASM(classifier, decoder, kept, masked_steps="present")
        model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), keras.optimizers.Adam(1e-3))
    return model


def _passes_of(model):
    """The networks' passes alone, forwards and backwards, the critic's weights at hand."""
    critic = (*model.classifier.trainable_variables, *model.classifier.non_trainable_variables)
    past = [tf.convert_to_tensor(x) for x in critic]

    @tf.function
    def passes(batch, kind):
        def kept(images):
            return model.at_rest(images, past)

        def on_replica(batch):
            with tf.GradientTape() as classifier_tape, tf.GradientTape() as mask_tape:
                values = model._objectives(
                    *batch, training=True, critic=kept if kind == "past" else None
                )
                loss, score = (tf.reduce_sum(values[x]) for x in ("classifier_loss", "score"))
            return (
                classifier_tape.gradient(loss, model.classifier_variables),
                mask_tape.gradient(score, model.mask_variables),
            )

        return model.distribute_strategy.run(on_replica, args=(batch,))

    return passes


def _measured(devices):
    """Seconds of whole steps and of the networks' passes, in turns; of a checkpoint on one."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, logical)
    strategy = tf.distribute.get_strategy()
    if devices > 1:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(devices)])
    model = _model(strategy, _SNAPSHOTS if devices == 1 else 2)
    random = np.random.default_rng(0)
    images = random.normal(size=(FLAGS.batch_size, 224, 224, 3)).astype(np.float32)
    labels = random.integers(0, _CLASSES, FLAGS.batch_size).astype(np.int32)
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
    batches = batches.rebatch(FLAGS.batch_size // devices)
    batch = next(iter(strategy.distribute_datasets_from_function(lambda _: batches)))
    run_step = tf.function(model.run_step)
    passes = _passes_of(model)

    def step(kind):
        model.decoder_optimizer.iterations.assign(numbers[kind].pop(0))
        float(run_step(batch)["finite"])  # waits for the end

    draws = {n: bool(model.snapshots.draws_past(n)) for n in range(200)}
    numbers = {
        kind: [n for n in draws if draws[n] == (kind == "past")] for kind in ("present", "past")
    }
    seconds = {(kind, what): [] for kind in numbers for what in ("step", "networks")}
    for number in range(FLAGS.rounds + 1):
        for kind in numbers:
            for what, run in (("step", step), ("networks", lambda kind: passes(batch, kind))):
                start = time.perf_counter()
                run(kind)
                if number:
                    seconds[kind, what].append(time.perf_counter() - start)
    means = {
        what: statistics.mean(statistics.median(seconds[kind, what]) for kind in numbers)
        for what in ("step", "networks")
    }
    found = {**means, "overhead": 1 - means["networks"] / means["step"]}
    if devices == 1:
        found["checkpoint"] = _checkpoint(model, step, means["step"])
        found["weights_bytes"] = sum(4 * int(tf.size(x)) for x in model.classifier.variables)
        found["gradients_bytes"] = sum(
            4 * int(tf.size(x))
            for x in (*model.classifier.trainable_variables, *model.mask_variables * 2)
        )
    return found


def _checkpoint(model, step, usual):
    """Seconds that checkpoints stop the training, and slow the steps that go on beside them."""
    with tempfile.TemporaryDirectory() as directory:
        checkpoints = Checkpoints(model.state, pathlib.Path(directory))
        stops, slower, written = [], [], []
        for number in range(1, 3):
            start = time.perf_counter()
            checkpoints.save(number)
            stops.append(time.perf_counter() - start)
            for kind in ("present", "past"):
                step(kind)
            steps = time.perf_counter() - start - stops[-1]
            checkpoints.wait()
            written.append(time.perf_counter() - start)
            slower.append(max(0, steps - 2 * usual))
        size = sum(path.stat().st_size for path in pathlib.Path(directory).glob("ckpt-2/*"))
    stop, slow = statistics.mean(stops), statistics.mean(slower)
    return {
        "bytes": size,
        "stops": stop,
        "slower": slow,
        "written": statistics.mean(written),
        "share": (stop + slow) / (_CHECKPOINT_EVERY * usual),
    }


def _calculated(gpus, measured):
    """Print a line for so many GPUs; hours for the paper's schedule."""
    if gpus == 1:
        print(
            f"\nCALCULATED for {_STEPS:,} steps of {_BATCH} images (bfloat16), assuming a GPU of "
            f"{FLAGS.gpu_tflops:g} TFLOP/s and {FLAGS.gpu_memory:g} GB/s, {FLAGS.links:g} GB/s "
            f"between 8 of them, {FLAGS.network:g} GB/s between machines, {FLAGS.cores} cores a GPU"
        )
        names = ("GPUs", "images", "networks", "draw", "reduce", "other", "images/s", "input", "h")
        print("".join(f"{name:>10}" for name in names))
    passes = statistics.mean(_PASSES.values())
    compute = _BATCH / gpus * passes * _GFLOP / (1000 * FLAGS.gpu_tflops)
    # A drawn snapshot is read and written once, in every second step.
    draw = 0.5 * 2 * measured["weights_bytes"] / (1e9 * FLAGS.gpu_memory)
    link = FLAGS.links if gpus <= 8 else FLAGS.network
    reduce = 2 * (gpus - 1) / gpus * measured["gradients_bytes"] / (1e9 * link)
    # Optimizers and checks read and write the weights, gradients and momenta some six times.
    other = FLAGS.launch + 6 * measured["weights_bytes"] / (1e9 * FLAGS.gpu_memory)
    step = compute + draw + reduce + other
    fed = FLAGS.input_rate * FLAGS.cores * gpus
    rate = min(_BATCH / step, fed)
    hours = _STEPS * _BATCH / rate / 3600
    values = (compute, draw, reduce, other)
    print(
        f"{gpus:10}{_BATCH // gpus:10}"
        + "".join(f"{1000 * value:7.1f} ms" for value in values)
        + f"{rate:10.0f}{fed:10.0f}{hours:10.1f}"
    )
    return hours


if __name__ == "__main__":
    program.run(main)
