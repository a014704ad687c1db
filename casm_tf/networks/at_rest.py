"""A classifier at rest, its normalizations folded into the convolutions before them."""

import collections

import keras
import tensorflow as tf
from keras import layers

from casm_tf.networks.layers import BatchNormalization


class AtRest:
    """A classifier's logits, with other weights too: images, weights -> logits. Nothing moves.

    At rest a normalization is a scale and an offset for each channel. Here the scale is multiplied
    into the kernel before it and the offset added there, so that neither the pass nor its gradient
    has to read the maps again. Only our own BatchNormalization is taken so, not Keras's.
    """

    def __init__(self, classifier):
        self._variables = [*classifier.trainable_variables, *classifier.non_trainable_variables]
        self._folded = []  # (convolution, normalization, what adds the offset)
        read = [classifier.output, *(layer.input for layer in classifier.layers)]
        readers = collections.Counter(map(id, keras.tree.flatten(read)))

        def layer_of(layer):
            if isinstance(layer, BatchNormalization):
                before = layer.input._keras_history.operation  # Keras tells it nowhere else
                if _is_plain(before) and readers[id(layer.input)] == 1:
                    offset = _Offset(name=layer.name, dtype=layer.dtype_policy)
                    self._folded.append((before, layer, offset))
                    return offset
            return layer  # the same one, as its weights are given with each call

        self._network = keras.models.clone_model(classifier, clone_function=layer_of)

    def __call__(self, images, weights=None):
        """`weights`: as `Snapshots.draw` gives them, the trainable ones first; None, its own."""
        weights = [tf.convert_to_tensor(v) for v in self._variables] if weights is None else weights
        given = {id(v): weight for v, weight in zip(self._variables, weights, strict=True)}
        for convolution, normalization, offset in self._folded:
            gamma, beta, mean, variance = (given[id(v)] for v in normalization.weights)
            scale = gamma * tf.math.rsqrt(variance + normalization.epsilon)
            of_channels = scale
            if isinstance(convolution, layers.DepthwiseConv2D):
                of_channels = scale[:, None]
            given[id(convolution.kernel)] *= of_channels
            given[id(offset.offset)] = beta - mean * scale
        network = self._network
        outputs, _ = network.stateless_call(
            [given[id(v)] for v in network.trainable_variables],
            [given[id(v)] for v in network.non_trainable_variables],
            images,
            training=False,
        )
        return outputs["logits"]


def _is_plain(layer):
    """Whether it is a convolution and nothing else."""
    return (
        isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D)
        and getattr(layer, "depth_multiplier", 1) == 1
        and not layer.use_bias
        and layer.activation is keras.activations.linear
    )


class _Offset(layers.Layer):
    def build(self, input_shape):
        self.offset = self.add_weight(shape=input_shape[-1:], initializer="zeros")

    def call(self, inputs):
        return tf.nn.bias_add(inputs, tf.convert_to_tensor(self.offset))

    def compute_output_shape(self, input_shape):
        return input_shape
