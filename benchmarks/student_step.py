"""A step of the second stage's student against PyTorch's: python -m benchmarks.student_step

EfficientNet-Lite0 and the fine decoder in float32, as casm_tf.sharpen trains them, at one size. The
peer is the same step in lean PyTorch, channels_last: the same layers move, the normalizations of
the encoder are at rest, and nothing has a gradient that is not used. Both start from the same
random weights, and the encoder's normalizations from the statistics of the pictures; both take
steps in turns. Each round prints the losses, too, which stay close to one another.

The last line is {"ratio": [median, smallest, largest] of the rounds' PyTorch's time by ours,
"seconds": {step: the median}, "losses": {step: [of each round, the one that does not count, too]},
"parameters": {step: {"decoder": how many, "encoder": how many that move}}}.
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

from benchmarks.torch_networks import EfficientNetLite, FineDecoder
from casm_tf import networks
from casm_tf.cli import program
from casm_tf.networks import conversion
from casm_tf.second_stage import student as its
from casm_tf.training import rates

FLAGS = flags.FLAGS

flags.DEFINE_integer("batch_size", 16, "Images a step.", lower_bound=2)
flags.DEFINE_integer("image_size", 224, "Pixels a side, a multiple of 32.", lower_bound=32)
flags.DEFINE_integer("rounds", 5, "Steps of each, after one that does not count.", lower_bound=1)
flags.DEFINE_integer("threads", 2, "Of PyTorch; TensorFlow takes all cores.", lower_bound=1)

_ARCHITECTURE, _CLASSES = "efficientnet_lite0", 1000
_RATE, _STEPS = 2e-3, 10_000


def main():
    torch.set_num_threads(FLAGS.threads)
    images, labels, predictions = _batch()
    encoder, decoder = _torch_networks(images)
    student = _student(encoder, decoder)
    _freeze_as(student.classifier, encoder)
    steps = {
        "casm_tf": _tensorflow_step(student, images, labels, predictions),
        "torch": _torch_step(encoder, decoder, images, labels, predictions),
    }
    seconds, losses = _timed(steps)
    ratios = [b / a for a, b in zip(seconds["casm_tf"], seconds["torch"], strict=True)]
    ratio = [summary(ratios) for summary in (statistics.median, min, max)]
    print("\n{:.2f} ({:.2f}-{:.2f}) times as fast as PyTorch".format(*ratio))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ours = student.decoder.trainable_variables, student.classifier.trainable_variables
    theirs = decoder.parameters(), _moved(encoder)
    parameters = {
        name: {"decoder": _count(of_decoder), "encoder": _count(of_encoder)}
        for name, (of_decoder, of_encoder) in zip(steps, (ours, theirs), strict=True)
    }
    for name, counts in parameters.items():
        print(
            "{:10}{decoder:9,} parameters of the decoder, {encoder:,} moved".format(name, **counts)
        )
    found = {"ratio": ratio, "seconds": medians, "losses": losses, "parameters": parameters}
    print(json.dumps(found))


def _batch():
    """Images, labels and predictions of no meaning."""
    random = np.random.default_rng(0)
    shape = (FLAGS.batch_size, FLAGS.image_size, FLAGS.image_size)
    images, labels = random.normal(size=(*shape, 3)), random.uniform(size=(*shape, 1))
    predictions = random.dirichlet(np.ones(_CLASSES), FLAGS.batch_size)
    return [array.astype(np.float32) for array in (images, labels, predictions)]


def _torch_networks(images):
    """The encoder, with normalizations of these images' statistics, and the decoder."""
    torch.manual_seed(0)
    encoder = EfficientNetLite(_CLASSES)
    encoder.map_blocks.insert(0, 0)  # as `networks.with_finest_map`
    decoder = FineDecoder((16, *encoder.CHANNELS))
    normalizations = [x for x in encoder.modules() if isinstance(x, torch.nn.BatchNorm2d)]
    for normalization in normalizations:
        normalization.momentum = 1
    encoder, decoder = (x.to(memory_format=torch.channels_last) for x in (encoder, decoder))
    with torch.no_grad():
        encoder(_tensor(images))
    return encoder.eval(), decoder.train()


def _student(encoder, decoder):
    """A student of the same weights."""
    filled = conversion.filled_classifier(_ARCHITECTURE, _arrays(encoder))
    classifier = networks.classifier(_ARCHITECTURE, FLAGS.image_size, _CLASSES)
    classifier.set_weights(filled.get_weights())
    classifier = networks.with_finest_map(classifier)
    fine = networks.fine_decoder(networks.map_shapes(classifier), FLAGS.image_size)
    axes = {1: (0,), 4: (2, 3, 1, 0)}
    conversion.fill(conversion.torch_variables(fine, {}), _arrays(decoder), axes)
    return its.Student(classifier, fine, rates.decayed(_RATE, "cosine", _STEPS))


def _arrays(module):
    return {name: x.numpy() for name, x in module.state_dict().items() if x.ndim}


def _freeze_as(classifier, encoder):
    """Let those of PyTorch's layers move that move in a classifier."""
    layers = [x for x in classifier.layers if x.weights]
    modules = [x for x in encoder.modules() if list(x.parameters(recurse=False))]
    for layer, module in zip(layers, modules, strict=True):
        module.requires_grad_(bool(layer.trainable_variables))


def _moved(encoder):
    return [x for x in encoder.parameters() if x.requires_grad]


def _tensorflow_step(student, images, labels, predictions):
    """() -> the loss, after a step as the training loop takes it."""
    batch = images, {"label": labels, "prediction": predictions}
    batch = tf.nest.map_structure(tf.constant, batch)
    run, loss = tf.function(student.run_step), student.averages["loss"]

    def step():
        loss.reset_state()
        run(batch)
        return float(loss.result())  # waits for the end

    return step


def _torch_step(encoder, decoder, images, labels, predictions):
    """() -> the loss, after the step of `Student.train_step`."""
    images, labels, predictions = _tensor(images), _tensor(labels), torch.from_numpy(predictions)
    moved, mask_parameters = _moved(encoder), list(decoder.parameters())
    settings = {"weight_decay": 1e-4, "eps": 1e-7, "fused": True}
    optimizers = (
        torch.optim.AdamW(moved, its._ENCODER_SHARE * _RATE, **settings),
        torch.optim.AdamW(mask_parameters, _RATE, **settings),
    )

    def step():
        maps = encoder.maps(images)
        masks = decoder(maps)
        both = (masks * labels).sum((1, 2, 3))
        either = (masks + labels).sum((1, 2, 3)) - both
        overlap = ((both + 1) / (either + 1)).mean()
        share = its._PREDICTION_SHARE
        held = share * maps[-1] + (1 - share) * maps[-1].detach()
        kept = torch.nn.functional.cross_entropy(encoder.head(held), predictions)
        entropy = torch.nn.functional.binary_cross_entropy(masks, labels)
        loss = entropy + 1 - overlap + kept
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*moved, *mask_parameters], its._CLIP_NORM)
        for optimizer in optimizers:
            optimizer.step()
        return loss.item()

    return step


def _tensor(array):
    tensor = torch.from_numpy(array.transpose(0, 3, 1, 2))
    return tensor.contiguous(memory_format=torch.channels_last)


def _timed(steps):
    """{name: the seconds of each round} and {name: the losses, the first one's, too}, in turns."""
    seconds, losses = ({name: [] for name in steps} for _ in range(2))
    for number in range(FLAGS.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            losses[name].append(step())
            taken = time.perf_counter() - start
            print(f"{name:10}{taken:7.2f} s   loss {losses[name][-1]:.4f}", flush=True)
            if number:
                seconds[name].append(taken)
    return seconds, losses


def _count(variables):
    return sum(int(np.prod(x.shape)) for x in variables)


if __name__ == "__main__":
    program.run(main)
