"""A training step of casm_tf against one in PyTorch: python -m benchmarks.train_step

With --classifier=resnet50 the peer is the original's step (torch_steps.py), as shipped and with
channels_last. The last line is
{"ratio_original": {"float32": x, "bfloat16": y}, "ratio_channels_last": {...}, "seconds": {...},
"draw_share_of_step": what reading one of the snapshots is of a step with a past critic}.

With --classifier=efficientnet_lite0 the step is that of configs/photographs.flags, where a teacher
gives the labels, and the peer is the same step with channels_last and nothing thrown away: each
network's gradients alone, and one pass for the masked image, which serves both losses where the
present classifier is the critic. The last line is {"ratio_channels_last": x, "range": {"ratio": its
smallest and its largest in a round, and each step's seconds alike}, "images_per_second": {...},
"seconds": {...}}. With TF_SET_ONEDNN_FPMATH_MODE=BF16 in the environment TensorFlow multiplies in
bfloat16; PyTorch does not know it.

Steps with the present and with a past classifier as the critic are timed apart; "mix" is the mean
of both, as with thinning L100.
"""

import json
import statistics
import time

import casm_tf.host.quiet  # noqa: F401

# isort: split

import numpy as np
import tensorflow as tf
import torch
from absl import flags

from benchmarks import casm_step, torch_steps
from casm_tf import networks
from casm_tf.cli import program
from casm_tf.thinning import Snapshots, Thinning

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "classifier", "resnet50", ["resnet50", "efficientnet_lite0"], "Which step is timed."
)
flags.DEFINE_integer("batch_size", 16, "Images a step.", lower_bound=1)
flags.DEFINE_integer("image_size", 224, "Pixels a side.", lower_bound=32)
flags.DEFINE_integer("rounds", 3, "Steps of each kind, after one that does not count.")
flags.DEFINE_integer("snapshots", 30, "Past classifiers to draw from.", lower_bound=1)
flags.DEFINE_integer("threads", 2, "Of PyTorch; TensorFlow takes all cores.", lower_bound=1)

_KINDS = torch_steps.KINDS
_CLASSES = 1000


def main():
    torch.set_num_threads(FLAGS.threads)
    random = np.random.default_rng(0)
    images = random.normal(size=(FLAGS.batch_size, *[FLAGS.image_size] * 2, 3)).astype(np.float32)
    labels = random.integers(0, _CLASSES, FLAGS.batch_size)
    measure = _of_resnet50 if FLAGS.classifier == "resnet50" else _of_efficientnet_lite0
    print(json.dumps(measure(images, labels)))


def _of_resnet50(images, labels):
    """The figures of the last line."""
    draw_seconds = _draw()
    seconds = _timed(
        {
            "float32": _tensorflow_step(images, labels, "float32"),
            "bfloat16": _tensorflow_step(images, labels, "mixed_bfloat16"),
            "original": torch_steps.original(images, labels, _CLASSES, torch.contiguous_format),
            "channels_last": torch_steps.original(images, labels, _CLASSES, torch.channels_last),
        }
    )
    medians = _medians(seconds)
    ratios = {
        f"ratio_{peer}": {
            ours: medians[peer]["mix"] / medians[ours]["mix"] for ours in ("float32", "bfloat16")
        }
        for peer in ("original", "channels_last")
    }
    share = draw_seconds / medians["float32"]["past"]
    return {**ratios, "seconds": medians, "draw_share_of_step": share}


def _of_efficientnet_lite0(images, labels):
    """The figures of the last line."""
    seconds = _timed(
        {
            "casm_tf": _tensorflow_step(images, labels, "float32"),
            "channels_last": torch_steps.lean("efficientnet_lite0", images, None, _CLASSES),
        }
    )
    medians = _medians(seconds)
    of_rounds = {name: np.mean(list(kinds.values()), axis=0) for name, kinds in seconds.items()}
    of_rounds["ratio"] = of_rounds["channels_last"] / of_rounds["casm_tf"]
    return {
        "ratio_channels_last": medians["channels_last"]["mix"] / medians["casm_tf"]["mix"],
        "range": {name: [min(values), max(values)] for name, values in of_rounds.items()},
        "images_per_second": {
            name: FLAGS.batch_size / kinds["mix"] for name, kinds in medians.items()
        },
        "seconds": medians,
    }


def _timed(steppers):
    """{name: {kind: the seconds of each round}} of {name: kind -> a step}, in turns."""
    seconds = {name: {kind: [] for kind in _KINDS} for name in steppers}
    for number in range(FLAGS.rounds + 1):
        for name, step in steppers.items():
            for kind in _KINDS:
                start = time.perf_counter()
                step(kind)
                if number:
                    seconds[name][kind].append(time.perf_counter() - start)
                print(f"{name:14}{kind:8}{time.perf_counter() - start:8.2f} s", flush=True)
    return seconds


def _medians(seconds):
    """{name: {kind or mix: seconds}}, which are printed, too."""
    medians = {
        name: {kind: statistics.median(times) for kind, times in kinds.items()}
        for name, kinds in seconds.items()
    }
    for kinds in medians.values():
        kinds["mix"] = statistics.mean(kinds.values())
    print(f"\n{'seconds':14}" + "".join(f"{kind:>9}" for kind in (*_KINDS, "mix")))
    for name, kinds in medians.items():
        print(f"{name:14}" + "".join(f"{value:9.2f}" for value in kinds.values()))
    return medians


def _draw():
    """Seconds that reading one of the snapshots takes."""
    classifier = networks.classifier("resnet50", FLAGS.image_size, _CLASSES)
    snapshots = Snapshots(classifier, Thinning.named("L100", capacity=FLAGS.snapshots))
    for _ in range(FLAGS.snapshots):
        snapshots.store(classifier)
    numbers = tf.TensorSpec((), tf.int64)
    draw = tf.function(snapshots.draw).get_concrete_function(numbers)
    times = []
    for number in range(20):
        start = time.perf_counter()
        draw(tf.constant(number, tf.int64))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _tensorflow_step(images, labels, precision):
    """kind -> one step of CASM with L100's snapshots, all held."""
    model = casm_step.model(
        FLAGS.classifier, FLAGS.image_size, _CLASSES, precision, FLAGS.snapshots
    )
    for _ in range(FLAGS.snapshots):
        model.snapshots.store(model.classifier)
    batch = (tf.constant(images), tf.constant(labels, tf.int32))
    run = tf.function(model.run_step)
    # Steps whose draw is of the wanted kind; the others are not run.
    numbers = {
        kind: [n for n in range(100) if bool(model.snapshots.draws_past(n)) == (kind == "past")]
        for kind in _KINDS
    }

    def step(kind):
        model.decoder_optimizer.iterations.assign(numbers[kind].pop(0))
        float(run(batch)["finite"])  # waits for the end

    return step


if __name__ == "__main__":
    program.run(main)
