"""A training step of casm_tf against PyTorch's: python -m benchmarks.train_step

    python -m benchmarks.train_step --classifier=resnet50 --rounds=5
    python -m benchmarks.train_step --classifier=efficientnet_lite0 --rounds=5

The peers (benchmarks/torch_steps.py), each in float32 and under autocast in bfloat16:

    original        the original's step, of ResNet-50 alone: as shipped,
    channels_last   the same in that memory format,
    lean            our step without a pass or a gradient too many, channels_last,
    compiled        the same through torch.compile.

All take steps in turns, with the present and with a past classifier as the critic, which are timed
apart; "mix" is the mean of both, as with thinning L100. A round's ratio is the peer's mix by ours.
A peer that fails is named with the reason, and left out. With EfficientNet-Lite0 the step is that
of configs/photographs.flags, where a teacher gives the labels. With
TF_SET_ONEDNN_FPMATH_MODE=BF16 in the environment TensorFlow multiplies in bfloat16 in float32's
steps, too; PyTorch does not know it.

The last line is {"ratios": {peer: {ours: [median, smallest, largest]}}, "seconds": {step: {kind:
the median}}, "draw_share_of_step": what reading one of the snapshots is of a step with a past
critic}.
"""

import functools
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
from casm_tf.cli import program

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "classifier", "resnet50", ["resnet50", "efficientnet_lite0"], "Which step is timed."
)
flags.DEFINE_integer("batch_size", 16, "Images a step.", lower_bound=1)
flags.DEFINE_integer("image_size", 224, "Pixels a side.", lower_bound=32)
flags.DEFINE_integer("rounds", 5, "Steps of each kind, after one that does not count.")
flags.DEFINE_integer("snapshots", 30, "Past classifiers to draw from.", lower_bound=1)
flags.DEFINE_integer("threads", 2, "Of PyTorch; TensorFlow takes all cores.", lower_bound=1)
flags.DEFINE_list("peers", [], "Some of those above; by default all.")

_KINDS = torch_steps.KINDS
_CLASSES = 1000


def main():
    torch.set_num_threads(FLAGS.threads)
    random = np.random.default_rng(0)
    images = random.normal(size=(FLAGS.batch_size, *[FLAGS.image_size] * 2, 3)).astype(np.float32)
    labels = random.integers(0, _CLASSES, FLAGS.batch_size)
    peers = _peers(images, labels)
    if unknown := set(FLAGS.peers) - set(peers):
        raise program.UserError(f"--peers: expected some of {list(peers)}; found {unknown}")
    models = {"float32": _model("float32"), "bfloat16": _model("mixed_bfloat16")}
    draw_seconds = _draw(models["float32"].snapshots)
    ours = {name: _tensorflow_step(model, images, labels) for name, model in models.items()}
    seconds = _timed(ours, {name: peers[name]() for name in FLAGS.peers or peers})
    medians = _medians(seconds)
    print(
        json.dumps(
            {
                "ratios": _ratios(seconds, ours),
                "seconds": medians,
                "draw_share_of_step": draw_seconds / medians["float32"]["past"],
            }
        )
    )


def _peers(images, labels):
    """{name: what makes kind -> a step} of PyTorch's."""
    is_lite = FLAGS.classifier == "efficientnet_lite0"
    original = functools.partial(torch_steps.original, images, labels, _CLASSES)
    lean = functools.partial(
        torch_steps.lean, FLAGS.classifier, images, None if is_lite else labels, _CLASSES
    )
    peers = {
        "original": functools.partial(original, torch.contiguous_format),
        "channels_last": functools.partial(original, torch.channels_last),
        "lean": lean,
        "compiled": functools.partial(lean, compiled=True),
    }
    if is_lite:
        del peers["original"], peers["channels_last"]
    half = {f"{name} bfloat16": functools.partial(x, bfloat16=True) for name, x in peers.items()}
    return {**peers, **half}


def _ratios(seconds, ours):
    """{peer: {ours: [median, smallest, largest]}}, of the rounds' mixes; they are printed, too."""
    mixes = {name: np.mean(list(kinds.values()), axis=0) for name, kinds in seconds.items()}
    ratios = {}
    print(f"\n{'times as fast':24}" + "".join(f"{name:>22}" for name in ours))
    for peer in (name for name in seconds if name not in ours):
        of_rounds = {name: mixes[peer] / mixes[name] for name in ours}
        ratios[peer] = {
            name: [float(summary(values)) for summary in (np.median, np.min, np.max)]
            for name, values in of_rounds.items()
        }
        shown = ("{:.2f} ({:.2f}-{:.2f})".format(*values) for values in ratios[peer].values())
        print(f"{peer:24}" + "".join(f"{text:>22}" for text in shown))
    return ratios


def _timed(ours, peers):
    """{name: {kind: the seconds of each round}} of {name: kind -> a step}, in turns."""
    steps = {**ours, **peers}
    seconds = {name: {kind: [] for kind in _KINDS} for name in steps}
    for number in range(FLAGS.rounds + 1):
        for name in list(seconds):
            try:
                taken = {kind: _seconds(steps[name], kind) for kind in _KINDS}
            except Exception as error:  # What torch.compile raises is its own affair.
                if name in ours:
                    raise
                print(f"{name} fails: {type(error).__name__}: {str(error).splitlines()[0]}")
                del seconds[name]
                continue
            print(f"{name:24}" + "".join(f"{kind:>9}{taken[kind]:7.2f} s" for kind in _KINDS))
            if number:
                for kind in _KINDS:
                    seconds[name][kind].append(taken[kind])
    return seconds


def _seconds(function, argument):
    start = time.perf_counter()
    function(argument)
    return time.perf_counter() - start


def _medians(seconds):
    """{name: {kind or mix: seconds}}, which are printed, too."""
    medians = {
        name: {kind: statistics.median(times) for kind, times in kinds.items()}
        for name, kinds in seconds.items()
    }
    for kinds in medians.values():
        kinds["mix"] = statistics.mean(kinds.values())
    print(f"\n{'seconds':24}" + "".join(f"{kind:>9}" for kind in (*_KINDS, "mix")))
    for name, kinds in medians.items():
        print(f"{name:24}" + "".join(f"{value:9.2f}" for value in kinds.values()))
    return medians


def _model(precision):
    """CASM with L100's snapshots, all held."""
    model = casm_step.model(
        FLAGS.classifier, FLAGS.image_size, _CLASSES, precision, FLAGS.snapshots
    )
    for _ in range(FLAGS.snapshots):
        model.snapshots.store(model.classifier)
    return model


def _draw(snapshots):
    """Seconds that reading one of the snapshots takes."""
    draw = tf.function(snapshots.draw).get_concrete_function(tf.TensorSpec((), tf.int64))
    numbers = [tf.constant(number, tf.int64) for number in range(20)]
    return statistics.median(_seconds(draw, number) for number in numbers)


def _tensorflow_step(model, images, labels):
    """kind -> one step of the model."""
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
