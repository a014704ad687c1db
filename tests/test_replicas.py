"""Several replicas against one device: the same global batch is the same step."""

import conftest  # noqa: F401  (in a fork too: its logical devices, before any tensor)
import keras
import numpy as np
import programs
import pytest
import tensorflow as tf
import tiny_casm
from tiny_casm import (
    BATCH,
    IMAGES,
    LABELS,
    SIZE,
    close,
    make,
    smooth,
    tiny_resnet,  # noqa: F401  (a fixture)
    trained,
)

from casm_tf import networks
from casm_tf.lambdas import Multiplier
from casm_tf.training import hooks, loop


def largest_difference(one, other):
    pairs = [
        (a.numpy(), b.numpy())
        for name in one.state
        for a, b in zip(one.state[name], other.state[name], strict=True)
    ]
    return max(np.abs(np.subtract(a, b, dtype=np.float64)).max() for a, b in pairs if a.size)


@pytest.mark.parametrize(
    "name",
    [
        "L",
        *(
            pytest.param(name, marks=pytest.mark.long)  # a minute each, to trace
            for name in ("F", "FL", "L2", "ring", "C", "present", "separate")
        ),
    ],
)
def test_two_replicas_with_synchronized_statistics_are_as_one_device(name, two_replicas, tmp_path):
    one = trained(tmp_path / "one", name, tf.distribute.get_strategy(), synchronized=False)
    two = trained(tmp_path / "two", name, two_replicas)
    assert largest_difference(one, two) < 1e-5
    start = smooth(name, tf.distribute.get_strategy())
    assert largest_difference(one, start) > 1e-3  # they did move


def train_on_four(directory, name):
    networks.RESNETS["tiny"] = tiny_casm.TINY
    strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(4)])
    one = trained(directory / "one", name, tf.distribute.get_strategy(), synchronized=False)
    four = trained(directory / "four", name, strategy)
    print(largest_difference(one, four))


@pytest.mark.long
@pytest.mark.parametrize("name", ["F", "L", "FL", "L2"])
def test_four_replicas_are_as_one_device(name, tmp_path):
    """In a process of its own: TensorFlow mixes up the collectives of two strategies."""
    done = programs.fork(train_on_four, tmp_path, name)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 1e-5


@pytest.mark.long
def test_without_synchronized_statistics_the_losses_agree_within_noise(two_replicas, tmp_path):
    options = {"synchronized": False, "classifier_rate": 0.003}
    one = trained(tmp_path / "one", "L2", tf.distribute.get_strategy(), **options)
    two = trained(tmp_path / "two", "L2", two_replicas, **options)
    assert largest_difference(one, two) > 1e-3  # other statistics, so another step
    results = [model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True) for model in (one, two)]
    for key in ("classifier_loss", "score"):
        assert results[0][key] == pytest.approx(results[1][key], rel=0.1)


def test_two_replicas_train_to_the_end_and_hold_the_same(two_replicas, eagerly, tmp_path):
    model = make("L1", strategy=two_replicas)
    shown = []

    def pictures():
        shown.append(model(IMAGES[:3], training=False).numpy())
        return {"mask": np.uint8(255 * shown[-1][0].repeat(3, axis=-1))}

    batches = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).repeat().batch(8)
    # 13 images: a batch of 8 and one of 5, of which the second replica has one.
    validation = tf.data.Dataset.from_tensor_slices((IMAGES[:13], LABELS[:13])).batch(8)
    loop.train(
        model,
        tmp_path,
        hooks.Schedule(4, validate_every=2, checkpoint_every=2),
        loop.Batches(8, lambda skip, part: batches.skip(skip), lambda part: validation),
        pictures=pictures,
    )
    assert [masks.shape for masks in shown] == [(3, SIZE, SIZE, 1)] * 2
    assert int(model.snapshots.stored) == 4
    assert (tmp_path / "checkpoints" / "ckpt-4").exists()
    # Each has seen other images, and yet no statistics of BatchNorm drifted apart.
    for variable in model.classifier.variables + model.decoder.variables:
        first, second = two_replicas.experimental_local_results(variable.value)
        assert np.array_equal(first, second)


def test_two_replicas_with_equal_halves_step_as_one_device_with_one_half(two_replicas):
    # Gradients, weight decay and clipping are summed over replicas: each counts once all the same.
    # Both halves have the same BatchNorm statistics.
    options = {"decoder_optimizer": keras.optimizers.SGD, "weight_decay": 1.0, "clip_norm": 1.0}
    options |= {"size": "l1", "lambda_size": 99.0}  # for a gradient that is clipped
    one, two = make(**options), make(strategy=two_replicas, **options)
    one.run_step(BATCH)
    batch = two_replicas.experimental_distribute_values_from_function(lambda context: BATCH)
    tf.function(lambda: two_replicas.run(two.train_step, args=(batch,)))()
    assert close(one.classifier.trainable_variables, two.classifier.trainable_variables)
    assert close(one.mask_variables, two.mask_variables)


def test_two_replicas_move_lambda_as_one_device_does(two_replicas):
    # Of two halves that are alike the mean mask is that of one.
    one = make(lambda_size=Multiplier(0.2, 5.0, rate=0.5))
    with two_replicas.scope():
        moved = Multiplier(0.2, 5.0, rate=0.5)
    two = make(strategy=two_replicas, lambda_size=moved)
    one.run_step(BATCH)
    batch = two_replicas.experimental_distribute_values_from_function(lambda context: BATCH)
    tf.function(lambda: two_replicas.run(two.train_step, args=(batch,)))()
    for alone, both in zip(one.lambda_size.variables, moved.variables, strict=True):
        values = [float(x) for x in two_replicas.experimental_local_results(both)]
        assert values == pytest.approx([float(alone)] * 2, abs=1e-5)
    assert float(one.lambda_size(1)) != pytest.approx(5, abs=1e-3)
