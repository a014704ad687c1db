"""Layers that stay as they are while a network is trained."""

import numpy as np
import pytest
import tensorflow as tf

from casm_tf import networks

random = np.random.default_rng(0)


@pytest.mark.parametrize("architecture", ["efficientnet_lite0", "mobilenet_v2", "small_resnet"])
def test_frozen_normalizations_do_not_see_the_batch(architecture):
    """Pictures of one kind: in training the logits are those at rest, and no statistic moves."""
    classifier = networks.classifier(architecture, 64, 5)
    for variable in classifier.non_trainable_variables:
        if "variance" in variable.path:
            variable.assign(tf.fill(variable.shape, 2.0))
    one_kind = 3 + 0.1 * random.normal(size=(4, 64, 64, 3)).astype(np.float32)
    at_rest = classifier(one_kind, training=False)["logits"].numpy()
    moved = classifier(one_kind, training=True)["logits"].numpy()
    assert np.abs(moved - at_rest).max() > 1e-3

    networks.freeze_normalizations(classifier)
    at_rest = classifier(one_kind, training=False)["logits"].numpy()
    statistics = {v.path: v.numpy() for v in classifier.variables if "moving" in v.path}
    frozen = classifier(one_kind, training=True)["logits"].numpy()
    np.testing.assert_allclose(frozen, at_rest, atol=1e-3)
    left = [v for v in classifier.trainable_variables if "gamma" in v.path or "beta" in v.path]
    assert not left
    assert statistics
    for variable in classifier.variables:
        if variable.path in statistics:
            np.testing.assert_array_equal(variable, statistics[variable.path])


def test_synchronizing_reaches_kerass_layers_too():
    classifier = networks.classifier("mobilenet_v2", 64, 5)
    networks.synchronize_batch_normalization(classifier)
    found = [x for x in classifier.layers if "BatchNormalization" in type(x).__name__]
    assert found and all(layer.synchronized for layer in found)
