"""Algorithm 1 on 32x32 images and the smallest networks, for the tests."""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from casm_tf import networks
from casm_tf.casm import CASM
from casm_tf.thinning import Snapshots, Thinning
from casm_tf.training import hooks, loop

SIZE, CLASSES = 32, 4
random = np.random.default_rng(0)
IMAGES = random.normal(size=(16, SIZE, SIZE, 3)).astype(np.float32)
LABELS = random.integers(0, CLASSES, 16).astype(np.int32)
BATCH = (tf.constant(IMAGES[:8]), tf.constant(LABELS[:8]))


# With something kept, its critic is never the present classifier.
ALWAYS_PAST = Thinning(every=100, capacity=1, probability=1.0)


TINY = networks.ResNet((1, 1, 1, 1), widths=(4, 4, 8, 8), deep_stem=False)


@pytest.fixture(autouse=True, scope="module")
def tiny_resnet():
    """A ResNet of 4 to 8 channels under the name `tiny`."""
    networks.RESNETS["tiny"] = TINY
    yield
    del networks.RESNETS["tiny"]


def make(
    thinning="L",
    separate=False,
    classifier_rate=0.05,
    decoder_optimizer=keras.optimizers.Adam,
    strategy=tf.distribute.get_strategy(),  # noqa: B008
    **options,
):
    """A compiled CASM that is the same at every call."""
    keras.utils.set_random_seed(3)
    if isinstance(thinning, str):
        thinning = Thinning.named(thinning)
    with strategy.scope():
        classifier = networks.classifier("tiny", SIZE, CLASSES)
    snapshots = Snapshots(classifier, thinning)
    with strategy.scope():
        decoder = networks.decoder(networks.map_shapes(classifier), SIZE, 4)
        encoder = networks.encoder_copy(classifier) if separate else None
        model = CASM(classifier, decoder, snapshots, encoder, **{"lambda_size": 2.0, **options})
        model.compile(keras.optimizers.SGD(classifier_rate, momentum=0.9), decoder_optimizer(0.01))
    return model


def steps(model, count, compiled=False):
    """Train as training/loop.py does, on one batch; to compile takes longer than ten steps."""
    run = tf.function(model.run_step) if compiled else model.run_step
    first = int(model.decoder_optimizer.iterations)
    if first == 0:
        model.remember(0)
    for step in range(first + 1, first + count + 1):
        results = run(BATCH)
        model.remember(step)
    return {name: float(value) for name, value in results.items()}


def copies(weights):
    return [weight.numpy().copy() for weight in weights]


def same(before, weights):
    return all(np.array_equal(a, b) for a, b in zip(before, copies(weights), strict=True))


def close(weights, expected):
    pairs = zip(copies(weights), copies(expected), strict=True)
    return all(found == pytest.approx(value, abs=1e-5) for found, value in pairs)


def state(classifier):
    """Weights and BatchNorm statistics, in the order of a snapshot."""
    return [*classifier.trainable_variables, *classifier.non_trainable_variables]


OPTIONS = {
    "F": {"thinning": "F"},
    "L": {"thinning": "L"},
    "FL": {"thinning": "FL"},
    "L2": {"thinning": "L2"},
    "ring": {"thinning": Thinning(every=1, capacity=2)},
    "all past": {"thinning": Thinning(first=True, every=1, capacity=2, probability=0.9)},
    "C": {"score": "classification"},
    "l1": {"size": "l1", "lambda_variation": 0.1},
    "masked": {"classifier_form": "masked"},
    "present": {"thinning": "L1", "masked_steps": "present"},
    "separate": {"separate": True},
}


def smooth(name, strategy, classifier_rate=0.05):
    """A model in which rounding errors stay what they are: softplus for ReLU, SGD for Adam.

    An activation within rounding of ReLU's kink falls on either side of it, and its gradient with
    it: one device with weights that differ by 1e-7 of themselves is up to 3e-3 away after ten
    steps, and with softplus less than 1e-5. Adam divides a gradient by its own size, so the
    rounding of one that ought to be 0 becomes a step as large as any.
    """

    def softplus(name=None):
        return keras.layers.Activation("softplus", name=name)

    with mock.patch.object(keras.layers, "ReLU", softplus):
        return make(
            strategy=strategy,
            decoder_optimizer=keras.optimizers.SGD,
            classifier_rate=classifier_rate,
            **OPTIONS[name],
        )


def trained(directory, name, strategy, synchronized=True, classifier_rate=0.05):
    """The model after ten steps on batches of 8 images: two batches, in turns."""
    model = smooth(name, strategy, classifier_rate)
    if synchronized:
        for network in filter(None, (model.classifier, model.decoder, model.encoder)):
            networks.synchronize_batch_normalization(network)
    batches = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8)

    def training_batches(skip, part):
        worker, share = part[0], 8 // part[1]
        mine = slice(worker * share, (worker + 1) * share)
        return batches.repeat().skip(skip).map(lambda images, labels: (images[mine], labels[mine]))

    loop.train(
        model,
        directory,
        hooks.Schedule(10),
        loop.Batches(8, training_batches, lambda part: batches),
    )
    return model
