"""What scoring costs: python -m benchmarks.evaluation

(a) Every measure of masks and boxes, an image of 224x224, against a forward pass of ResNet-50 in
the same run, with MaxBoxAcc's thousand thresholds and without. (b) MaxBoxAcc over 1,000 masks. (c)
The resident set after the first and after the tenth batch of 100 images, as Linux counts it. Masks
are smooth random blobs of 56x56, enlarged as a decoder's would be: nearest for (a) and (c), nearest
and bilinear for (b). Times are of the processor, so that other programs matter little; "wall" has
the same by the clock. The forward pass and MaxBoxAcc take all cores, the other measures one: by the
clock, on c idle cores, their share is c times as large. The last line is
{"metrics_over_forward": x, "without_maxboxacc_over_forward": x, "maxboxacc_seconds_per_1000": x,
"wall": {the same three}, "megabytes_grown": x, "milliseconds_per_image": {...}}.
"""

import json
import pathlib
import resource
import statistics
import time

import casm_tf.host.quiet  # noqa: F401

# isort: split

import cv2
import numpy as np
import tensorflow as tf
from absl import flags
from tqdm import tqdm

from casm_tf import networks
from casm_tf.cli import program
from casm_tf.evaluation import (
    LocalizationEvaluator,
    MaskStatistics,
    MaxBoxAcc,
    PointingGame,
    PxAP,
    SalientObject,
)

FLAGS = flags.FLAGS

flags.DEFINE_integer("batch_size", 16, "Images a forward pass.", lower_bound=1)
flags.DEFINE_integer(
    "rounds", 5, "The median of them counts, after one that does not.", lower_bound=1
)
flags.DEFINE_integer(
    "masks", 1000, "For MaxBoxAcc alone, of each way to enlarge them.", lower_bound=50
)

_SIZE, _SMALL = 224, 56
_CLOCKS = {"processor": time.process_time, "wall": time.perf_counter}


def main():
    random = np.random.default_rng(0)
    grown = _megabytes_grown(random)
    print(f"resident set from the first to the tenth batch of 100: {grown:+.1f} MB", flush=True)

    milliseconds = _milliseconds_per_image(random)
    seconds = {
        name: _maxboxacc_seconds(random, interpolation)
        for name, interpolation in (("nearest", cv2.INTER_NEAREST), ("bilinear", cv2.INTER_LINEAR))
    }
    figures = {}
    for clock, times in milliseconds.items():
        forward = times["forward"]
        measures = sum(times.values()) - forward
        rows = {**times, "all": measures, "all but MaxBoxAcc": measures - times["MaxBoxAcc"]}
        print(f"\n{f'ms an image, {clock}':30}{'':8}{'of forward':>12}")
        for name, value in rows.items():
            print(f"{name:30}{value:8.2f}{value / forward:12.3f}")
        for name, both in seconds.items():
            print(f"MaxBoxAcc of 1,000 masks enlarged {name}: {both[clock]:.1f} s")
        figures[clock] = {
            "metrics_over_forward": rows["all"] / forward,
            "without_maxboxacc_over_forward": rows["all but MaxBoxAcc"] / forward,
            "maxboxacc_seconds_per_1000": max(both[clock] for both in seconds.values()),
        }
    print(
        json.dumps(
            {
                **figures["processor"],
                "wall": figures["wall"],
                "megabytes_grown": grown,
                "milliseconds_per_image": milliseconds["processor"],
            }
        )
    )


def _masks(random, count, interpolation=cv2.INTER_NEAREST):
    """Blobs a tenth of the side wide, float32 [count, 224, 224], about a third of them salient."""
    masks = []
    for _ in range(count):
        noise = cv2.GaussianBlur(random.normal(size=(_SMALL, _SMALL)), (0, 0), _SMALL / 10)
        mask = 1 / (1 + np.exp(3 - 6 * noise / noise.std()))
        masks.append(cv2.resize(mask, (_SIZE, _SIZE), interpolation=interpolation))
    return np.float32(masks)


def _boxes(random, count):
    """One or two boxes an image, as most of ImageNet's have."""
    corners = random.integers(0, _SIZE // 2, (count, 2, 2))
    boxes = np.concatenate([corners, corners + random.integers(30, _SIZE // 2, corners.shape)], 2)
    return [both[: 1 + index % 2] for index, both in enumerate(boxes)]


def _evaluators():
    """By name, what an evaluator takes in of masks, boxes and true masks."""
    volume, mean = LocalizationEvaluator(), LocalizationEvaluator("mean")
    mask_statistics, salient_object = MaskStatistics(), SalientObject()
    max_box_acc, px_ap, pointing_game = MaxBoxAcc(), PxAP(), PointingGame()
    return {
        "LE, OM, F1, volume rule": lambda m, b, t: volume.accumulate(m, b, [True] * len(m)),
        "LE, OM, F1, mean rule": lambda m, b, t: mean.accumulate(m, b, [True] * len(m)),
        "statistics": lambda m, b, t: mask_statistics.accumulate(m),
        "PxAP": lambda m, b, t: px_ap.accumulate(m, t),
        "salient object": lambda m, b, t: salient_object.accumulate(m, t),
        "pointing game": lambda m, b, t: pointing_game.accumulate(m, b),
        "MaxBoxAcc": lambda m, b, t: max_box_acc.accumulate(m, b),
    }


def _batch(random, count):
    masks = _masks(random, count)
    return masks, _boxes(random, count), random.permutation(masks) > 0.5


def _megabytes_grown(random):
    evaluators, sizes = _evaluators(), []
    batch = _batch(random, 100)
    for _ in tqdm(range(10), desc="memory", unit="batch"):
        for accumulate in evaluators.values():
            accumulate(*batch)
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        sizes.append(pages * resource.getpagesize() / 2**20)
    return sizes[-1] - sizes[0]


def _milliseconds_per_image(random):
    """By clock and name, the medians of the forward pass and of each evaluator."""
    classifier = networks.classifier("resnet50", _SIZE, 1000)
    forward = tf.function(lambda images: classifier(images, training=False)["logits"])
    images = tf.constant(random.normal(size=(FLAGS.batch_size, _SIZE, _SIZE, 3)), tf.float32)
    steps = {"forward": lambda *_: forward(images).numpy(), **_evaluators()}
    found = {clock: {name: [] for name in steps} for clock in _CLOCKS}
    for number in tqdm(range(FLAGS.rounds + 1), desc="against ResNet-50", unit="round"):
        batch = _batch(random, FLAGS.batch_size)
        for name, step in steps.items():
            for clock, seconds in _timed(step, *batch).items():
                if number:
                    found[clock][name].append(1000 * seconds / FLAGS.batch_size)
    return {
        clock: {name: statistics.median(values) for name, values in times.items()}
        for clock, times in found.items()
    }


def _maxboxacc_seconds(random, interpolation):
    """Seconds of 1,000 masks, by clock, of as many as are asked for."""
    evaluator, batches = MaxBoxAcc(), FLAGS.masks // 50
    seconds = dict.fromkeys(_CLOCKS, 0.0)
    for _ in tqdm(range(batches), desc="MaxBoxAcc", unit="batch"):
        batch = _masks(random, 50, interpolation), _boxes(random, 50)
        for clock, value in _timed(evaluator.accumulate, *batch).items():
            seconds[clock] += value * 1000 / (batches * 50)
    return seconds


def _timed(step, *batch):
    """Seconds of a call, by each clock."""
    start = {name: clock() for name, clock in _CLOCKS.items()}
    step(*batch)
    return {name: clock() - start[name] for name, clock in _CLOCKS.items()}


if __name__ == "__main__":
    program.run(main)
