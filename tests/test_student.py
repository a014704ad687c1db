"""The student of the second stage, on the smallest networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from casm_tf import networks
from casm_tf.second_stage.student import Student

SIZE = 64
RATE = keras.optimizers.schedules.CosineDecay(0.01, 100)
random = np.random.default_rng(0)


def make():
    keras.utils.set_random_seed(1)
    classifier = networks.with_finest_map(networks.classifier("efficientnet_lite0", SIZE, 5))
    return Student(classifier, networks.fine_decoder(networks.map_shapes(classifier), SIZE), RATE)


def batch(size=SIZE):
    images = random.normal(size=(4, size, size, 3)).astype(np.float32)
    label = (images[..., :1] > 0).astype(np.float32)
    prediction = tf.nn.softmax(random.normal(size=(4, 5)).astype(np.float32))
    return tf.constant(images), {"label": tf.constant(label), "prediction": prediction}


def test_the_loss_by_hand():
    """A mask of one half everywhere, of a label that is 1 on a quarter of the picture."""
    student = make()
    student.open_decoder = lambda maps, training: tf.fill((1, 8, 8, 1), 0.5)
    student.open_classifier = lambda x, training: {"maps": [tf.zeros((1, 1, 1, 3))]}
    student.open_head = lambda x, training: tf.zeros((1, 5))
    label = np.zeros((1, 8, 8, 1), np.float32)
    label[:, :4, :4] = 1
    prediction = tf.constant([[1.0, 0, 0, 0, 0]])
    found = student._objectives(None, {"label": label, "prediction": prediction}, training=False)
    np.testing.assert_allclose(found["cross_entropy"], [np.log(2)], rtol=1e-5)
    overlap = (8 + 1) / (32 + 16 - 8 + 1)
    np.testing.assert_allclose(found["overlap"], [overlap], rtol=1e-6)
    loss = np.log(2) + 1 - overlap + np.log(5)
    np.testing.assert_allclose(found["loss"], [loss], rtol=1e-5)


def test_steps_learn_and_leave_the_normalizations_alone():
    student = make()
    some = batch()
    moving = {id(v) for v in student.classifier.trainable_variables}
    before = [v.numpy() for v in student.classifier.variables]
    first = student._objectives(*some, training=False)["loss"].numpy().mean()
    step = tf.function(student.train_step)
    for _ in range(12):
        assert step(some)["finite"] == 1
    assert student._objectives(*some, training=True)["loss"].numpy().mean() < first
    after = student.classifier.variables
    assert moving
    for variable, value in zip(after, before, strict=True):
        if id(variable) not in moving:
            np.testing.assert_array_equal(variable, value, variable.path)
    is_norm = [v for v in student.classifier.trainable_variables if "_bn/" in v.path]
    assert not is_norm


def test_predictions_move_the_head_in_full_and_the_encoder_by_a_twentieth():
    images, targets = batch()
    student = make()
    variables = student.classifier.trainable_variables

    def gradients(logits_of):
        with tf.GradientTape() as tape:
            logits = logits_of(images)
            loss = tf.nn.softmax_cross_entropy_with_logits(targets["prediction"], logits)
        return tape.gradient(loss, variables, unconnected_gradients="zero")

    full = gradients(lambda x: student.classifier(x)["logits"])
    held = gradients(lambda x: student(x)["logits"])
    head = {v.path for v in student.open_head.trainable_variables}
    assert 0 < len(head) < len(variables)
    for variable, there, found in zip(variables, full, held, strict=True):
        share = 1 if variable.path in head else 0.05
        np.testing.assert_allclose(found, share * there, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("size", [32, 96, 160])
def test_masks_of_other_sizes(size):
    found = make()(batch(size)[0])
    assert found["mask"].shape == (4, size, size, 1)
    assert found["logits"].shape == (4, 5)


@pytest.mark.parametrize(
    ("architecture", "size"),
    [("small_resnet", 64), ("resnet18", 64), ("efficientnet_lite0", 64), ("mobilenet_v2", 64)],
)
def test_the_decoder_reads_the_maps_of_every_kind_of_network(architecture, size):
    classifier = networks.with_finest_map(networks.classifier(architecture, size, 3))
    shapes = networks.map_shapes(classifier)
    assert shapes[0][0] == size // 2
    decoder = networks.fine_decoder(shapes, size)
    model = networks.mask_model(classifier, decoder)
    mask = model(random.normal(size=(2, size, size, 3)).astype(np.float32))["mask"].numpy()
    assert mask.shape == (2, size, size, 1)
    assert mask.min() >= 0 and mask.max() <= 1


def test_the_finest_map_is_the_narrowest_at_half_the_size():
    classifier = networks.classifier("efficientnet_lite0", SIZE, 3)
    assert networks.map_shapes(networks.with_finest_map(classifier))[0] == (32, 32, 16)
