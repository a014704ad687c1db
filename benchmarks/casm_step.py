"""The training step that benchmarks time, in TensorFlow."""

import keras

from casm_tf import networks
from casm_tf.casm import CASM
from casm_tf.thinning import Snapshots, Thinning


def model(architecture, image_size, classes, precision, snapshots):
    """A compiled CASM with L100's snapshots, none held yet.

    `resnet50`'s step is the original's. With `efficientnet_lite0` it is that of
    configs/photographs.flags, where a teacher gives the labels.
    """
    is_lite = architecture == "efficientnet_lite0"
    keras.mixed_precision.set_global_policy(precision)
    classifier = networks.classifier(architecture, image_size, classes)
    decoder = networks.decoder(
        networks.map_shapes(classifier),
        image_size,
        interpolation="bilinear" if is_lite else "nearest",
    )
    keras.mixed_precision.set_global_policy("float32")
    snapshots = Snapshots(classifier, Thinning.named("L100", capacity=snapshots))
    teacher = networks.copy(classifier) if is_lite else None
    casm = CASM(classifier, decoder, snapshots, teacher=teacher, masked_steps="present")
    casm.compile(keras.optimizers.SGD(1e-3, momentum=0.9), keras.optimizers.Adam(1e-3))
    return casm
