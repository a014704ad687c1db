"""A training step of casm_tf against one in PyTorch: python -m benchmarks.train_step

With --classifier=resnet50 the peer is the original's step: a forward pass for the clean image, one
for the masked image where the present classifier is the critic, one for the decoder's loss, and
backward passes through all parameters, also those whose gradients are thrown away; in the order
that present PyTorch accepts. It runs as shipped and with channels_last. The last line is
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

import copy
import json
import statistics
import time

import casm_tf.host.quiet  # noqa: F401

# isort: split

import keras
import numpy as np
import tensorflow as tf
import torch
from absl import flags

from benchmarks.torch_networks import Decoder, EfficientNetLite, ResNet
from casm_tf import networks
from casm_tf.casm import CASM
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

_KINDS = ("present", "past")
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
            "original": _torch_step(images, labels, torch.contiguous_format),
            "channels_last": _torch_step(images, labels, torch.channels_last),
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
            "channels_last": _lean_torch_step(images),
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


def _tensorflow_step(images, labels, policy):
    """kind -> one step of CASM with L100's snapshots, all held."""
    is_lite = FLAGS.classifier == "efficientnet_lite0"
    keras.mixed_precision.set_global_policy(policy)
    classifier = networks.classifier(FLAGS.classifier, FLAGS.image_size, _CLASSES)
    decoder = networks.decoder(
        networks.map_shapes(classifier),
        FLAGS.image_size,
        interpolation="bilinear" if is_lite else "nearest",
    )
    keras.mixed_precision.set_global_policy("float32")
    snapshots = Snapshots(classifier, Thinning.named("L100", capacity=FLAGS.snapshots))
    for _ in range(FLAGS.snapshots):
        snapshots.store(classifier)
    teacher = networks.copy(classifier) if is_lite else None
    model = CASM(classifier, decoder, snapshots, teacher=teacher, masked_steps="present")
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), keras.optimizers.Adam(1e-3))
    batch = (tf.constant(images), tf.constant(labels, tf.int32))
    run = tf.function(model.run_step)
    # Steps whose draw is of the wanted kind; the others are not run.
    numbers = {
        kind: [n for n in range(100) if bool(snapshots.draws_past(n)) == (kind == "past")]
        for kind in _KINDS
    }

    def step(kind):
        model.decoder_optimizer.iterations.assign(numbers[kind].pop(0))
        float(run(batch)["finite"])  # waits for the end

    return step


def _torch_step(images, labels, memory_format):
    """kind -> one step as the original's code takes it."""
    torch.manual_seed(0)
    classifier = ResNet("resnet50", _CLASSES).to(memory_format=memory_format)
    decoder = Decoder().to(memory_format=memory_format)
    past = copy.deepcopy(classifier).eval()
    classifier_optimizer = torch.optim.SGD(
        classifier.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4
    )
    decoder_optimizer = torch.optim.Adam(decoder.parameters(), 1e-3, weight_decay=1e-4)
    cross_entropy = torch.nn.CrossEntropyLoss()
    images = torch.from_numpy(images.transpose(0, 3, 1, 2)).contiguous(memory_format=memory_format)
    labels = torch.from_numpy(labels)
    classifier.train()
    decoder.train()

    def learn(logits):
        classifier_optimizer.zero_grad()
        cross_entropy(logits, labels).backward()
        classifier_optimizer.step()

    def step(kind):
        clean, maps = classifier(images)
        right = clean.argmax(1) == labels
        learn(clean)
        mask = decoder([x.detach() for x in maps])
        masked = images * (1 - mask)
        if kind == "present":
            learn(classifier(masked.detach())[0])
        logits, _ = (past if kind == "past" else classifier)(masked)
        decoder_optimizer.zero_grad()
        classifier_optimizer.zero_grad()
        _negative_score(right, logits, labels, mask).backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 10)
        decoder_optimizer.step()

    return step


def _lean_torch_step(images):
    """kind -> one step on the teacher's labels, without a pass or a gradient too many."""
    torch.manual_seed(0)
    classifier = EfficientNetLite(_CLASSES).to(memory_format=torch.channels_last)
    decoder = Decoder(classifier.CHANNELS, stem=0, interpolation="bilinear")
    decoder.to(memory_format=torch.channels_last)
    teacher = copy.deepcopy(classifier).eval()
    past = copy.deepcopy(teacher).requires_grad_(False)
    parameters, mask_parameters = list(classifier.parameters()), list(decoder.parameters())
    classifier_optimizer = torch.optim.SGD(
        parameters, 1e-3, momentum=0.9, weight_decay=1e-4, fused=True
    )
    decoder_optimizer = torch.optim.Adam(mask_parameters, 1e-3, weight_decay=1e-4, fused=True)
    cross_entropy = torch.nn.CrossEntropyLoss()
    images = torch.from_numpy(images.transpose(0, 3, 1, 2))
    images = images.contiguous(memory_format=torch.channels_last)

    def step(kind):
        with torch.no_grad():
            labels = teacher(images)[0].argmax(1)
        clean, maps = classifier(images)
        right = clean.argmax(1) == labels
        mask = decoder([x.detach() for x in maps])
        logits, _ = (past if kind == "past" else classifier)(images * (1 - mask))
        loss = cross_entropy(clean, labels)
        if kind == "present":
            loss = (loss + cross_entropy(logits, labels)) / 2
        classifier_optimizer.zero_grad()
        decoder_optimizer.zero_grad()
        loss.backward(inputs=parameters, retain_graph=kind == "present")
        _negative_score(right, logits, labels, mask).backward(inputs=mask_parameters)
        torch.nn.utils.clip_grad_norm_(mask_parameters, 10)
        classifier_optimizer.step()
        decoder_optimizer.step()

    return step


def _negative_score(right, logits, labels, mask):
    log_p = torch.log_softmax(logits, 1)
    entropy = -(log_p.exp() * log_p).sum(1)
    fooled = right & (logits.argmax(1) != labels)
    size = torch.relu(fooled.float() - mask.mean((1, 2, 3)))
    return -(right * entropy).mean() - 10 * size.mean()


if __name__ == "__main__":
    program.run(main)
