"""One step against the paper's equations, by hand-made tapes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_casm import (
    ALWAYS_PAST,
    BATCH,
    close,
    copies,
    make,
    state,
    tiny_resnet,  # noqa: F401  (a fixture)
)

from casm_tf import objectives


@pytest.mark.parametrize(
    ("options", "of_clean", "of_masked"),
    [
        ({}, 0.5, 0.5),  # eq. (8)
        ({"classifier_form": "masked"}, 0.0, 1.0),  # eq. (3)
        ({"thinning": ALWAYS_PAST}, 0.5, 0.5),
        ({"thinning": ALWAYS_PAST, "masked_steps": "present"}, 1.0, None),
    ],
    ids=["both", "masked", "past", "present"],
)
def test_the_classifiers_step_is_that_of_a_hand_made_tape(options, of_clean, of_masked):
    model, peer = make(weight_decay=0.01, **options), make(weight_decay=0.01)
    images, labels = BATCH
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        clean = peer.classifier(images, training=True)
        loss = of_clean * cross_entropy(labels, clean["logits"])
        if of_masked is not None:
            mask = tf.stop_gradient(peer.decoder(clean["maps"], training=True))
            masked = peer.classifier(images * (1 - mask), training=True)
            loss += of_masked * cross_entropy(labels, masked["logits"])
    variables = peer.classifier.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(0.05 * (gradient + 0.01 * variable))
    if model.snapshots.capacity:
        model.snapshots.store(model.classifier)
    model.run_step(BATCH)
    assert close(state(model.classifier), state(peer.classifier))  # BatchNorm statistics included


@pytest.mark.parametrize("thinning", ["F", "L", "past"])
@pytest.mark.parametrize(
    "options",
    [
        {"score": "entropy", "size": "l1", "lambda_variation": 0.3},
        {"score": "classification", "size": "adaptive", "separate": True},
        {"size": "l1", "lambda_variation": 0.3, "masked_in_weight": 0.4, "fill": "shuffle"},
    ],
    ids=["E", "C", "masked_in"],
)
def test_the_masks_step_climbs_the_score_of_equation_7(thinning, options):
    options = {"decoder_optimizer": keras.optimizers.SGD, "weight_decay": 0.5, **options}
    options |= {"thinning": ALWAYS_PAST if thinning == "past" else thinning, "lambda_size": 0.7}
    options |= {"clip_norm": 1e9}
    model, peer, critic = make(**options), make(**options), make(**options).classifier
    moves = thinning != "F"
    if thinning == "past":
        model.snapshots.store(model.classifier)
        for classifier in (model.classifier, peer.classifier):  # only the critic stays where it was
            for variable in classifier.trainable_variables:
                variable.assign(0.9 * variable)

    images, labels = BATCH
    with tf.GradientTape() as tape:
        clean = peer.classifier(images, training=moves)
        maps = peer.encoder(images, training=True) if peer.encoder else clean["maps"]
        masks = peer.decoder(maps, training=True)
        critic, training = (peer.classifier, moves) if thinning != "past" else (critic, False)
        hole = tf.roll(images, 1, 0) if "fill" in options else 0.0
        logits = critic(images * (1 - masks) + hole * masks, training=training)["logits"]
        right, still = (tf.argmax(x, -1, labels.dtype) == labels for x in (clean["logits"], logits))
        mean = tf.reduce_mean(masks, axis=(1, 2, 3))
        if options.get("score") != "classification":
            p = tf.nn.softmax(logits)
            entropy = tf.where(right, -tf.reduce_sum(p * tf.math.log(p), -1), 0)
            score = entropy - 0.7 * mean - 0.3 * objectives.total_variation(masks)
        else:
            loss = -tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=1)
            score = loss + 0.7 * tf.nn.relu(tf.where(right & ~still, 1.0, 0.0) - mean)
        if "masked_in_weight" in options:
            kept = critic(images * masks + hole * (1 - masks), training=False)["logits"]
            score += 0.4 * tf.gather(tf.nn.log_softmax(kept), labels, batch_dims=1)
        score = tf.reduce_mean(score)
    variables = peer.mask_variables
    for variable, gradient in zip(variables, tape.gradient(score, variables), strict=True):
        variable.assign_add(0.01 * (gradient - 0.5 * variable))  # up; less the weight decay
    model.run_step(BATCH)
    assert close(model.mask_variables, variables)
    assert float(model.averages["score"].result()) == pytest.approx(float(score), abs=1e-5)


def test_the_decoders_gradient_is_clipped():
    model = make(
        "F",
        clip_norm=0.1,
        weight_decay=0.0,
        lambda_size=99.0,
        decoder_optimizer=keras.optimizers.SGD,
    )
    before = copies(model.decoder.trainable_variables)
    model.run_step(BATCH)
    after = copies(model.decoder.trainable_variables)
    moved = sum(np.sum((a - b) ** 2) for a, b in zip(before, after, strict=True)) ** 0.5
    assert moved == pytest.approx(0.01 * 0.1, rel=1e-2)  # rate times norm
