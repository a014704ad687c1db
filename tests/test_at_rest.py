"""Classifiers whose normalizations are folded away, against the classifiers themselves."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from casm_tf import networks
from casm_tf.networks.layers import BatchNormalization

ARCHITECTURES = ("small_resnet", "resnet18", "efficientnet_lite0", "mobilenet_v2")


def classifier(architecture, seed):
    """A classifier whose every weight and statistic is random."""
    network = networks.classifier(architecture, 32, 5)
    numbers = np.random.default_rng(seed)
    for variable in network.variables:
        name, array = variable.name, variable.numpy()
        noise = numbers.uniform(0.5, 1.5, array.shape)
        is_statistic = "variance" in name or "gamma" in name
        # Large kernels: or the head's bias alone would make the logits.
        variable.assign(noise if is_statistic else 2 * array + 0.1 * (noise - 1))
    return network


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_and_their_gradients_are_the_classifiers(architecture):
    one, other = (classifier(architecture, seed) for seed in (0, 1))
    images = tf.constant(np.random.default_rng(2).normal(size=(2, 32, 32, 3)), tf.float32)
    weights = [*other.trainable_variables, *other.non_trainable_variables]
    at_rest = networks.AtRest(one)
    before = [variable.numpy() for variable in one.variables]
    for network, given in ((one, None), (other, [tf.convert_to_tensor(w) for w in weights])):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(images)
            expected = network(images, training=False)["logits"]
            found = at_rest(images, given)
            values = [tf.reduce_sum(x[:, 0]) for x in (found, expected)]
        assert found.numpy() == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-3)
        mine, others = (tape.gradient(value, images).numpy() for value in values)
        assert np.abs(mine - others).max() <= 1e-3 * np.abs(others).max()
    after = [variable.numpy() for variable in one.variables]
    assert all(map(np.array_equal, before, after))


@pytest.mark.parametrize("architecture", ARCHITECTURES[:3])
def test_no_normalization_is_left(architecture):
    network = networks.AtRest(networks.classifier(architecture, 32, 5))._network
    assert not any(isinstance(layer, BatchNormalization) for layer in network.layers)


def test_only_what_may_be_folded_is():
    images = keras.Input((8, 8, 2), name="images")
    x = layers.Conv2D(3, 1, bias_initializer="ones")(images)
    x = layers.Conv2D(3, 1, use_bias=False, activation="relu")(BatchNormalization()(x))
    x = layers.Conv2D(3, 1, use_bias=False)(BatchNormalization()(x))
    x = layers.Add()([x, BatchNormalization()(x)])
    logits = layers.Dense(2)(layers.GlobalAveragePooling2D()(x))
    network = keras.Model(images, {"logits": logits, "maps": [x]})
    for layer in network.layers:
        if isinstance(layer, BatchNormalization):
            layer.moving_mean.assign([1, -2, 3])
            layer.gamma.assign([0.5, -1, 2])
    given = keras.random.normal((2, 8, 8, 2), seed=0)
    at_rest = networks.AtRest(network)
    assert at_rest(given).numpy() == pytest.approx(network(given)["logits"].numpy(), abs=1e-5)
    assert len(at_rest._folded) == 0


def test_it_can_be_made_twice():
    network = networks.classifier("small_resnet", 32, 5)
    first, second = networks.AtRest(network), networks.AtRest(network)
    assert len(first._folded) == len(second._folded) > 0


def test_the_classifier_itself_is_saved_and_copied_as_before(tmp_path):
    network = classifier("small_resnet", 0)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    expected = network(images)["logits"].numpy()
    networks.AtRest(network)
    network.save(tmp_path / "any.keras")
    for again in (keras.models.load_model(tmp_path / "any.keras"), networks.copy(network)):
        assert again(images)["logits"].numpy() == pytest.approx(expected, abs=1e-5)
