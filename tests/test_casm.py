"""Algorithm 1, step by step, on 32x32 images and the smallest networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_casm import (
    ALWAYS_PAST,
    BATCH,
    IMAGES,
    LABELS,
    OPTIONS,
    SIZE,
    close,
    copies,
    make,
    same,
    state,
    steps,
    tiny_resnet,  # noqa: F401  (a fixture)
)

from casm_tf import networks, objectives
from casm_tf.thinning import Thinning
from casm_tf.training import rates

# What is traced otherwise than L2 in the tests below.
COMPILED = ("F", "present")


@pytest.mark.parametrize("name", OPTIONS)
def test_every_choice_of_the_paper_takes_steps(name):
    model = make(**OPTIONS[name])
    decoder = copies(model.decoder.trainable_variables)
    classifier = copies(model.classifier.trainable_variables)
    results = steps(model, 3, compiled=name in COMPILED)
    assert all(np.isfinite(value) for value in results.values())
    assert not same(decoder, model.decoder.trainable_variables)
    assert same(classifier, model.classifier.trainable_variables) == (name == "F")


def test_the_baseline_never_moves_its_classifier():
    model = make("F")
    before = copies(model.classifier.variables)
    steps(model, 5)
    model.test_step(BATCH)
    assert same(before, model.classifier.variables)  # BatchNorm statistics included


def test_the_masks_objective_moves_neither_classifier_nor_shared_encoder():
    model = make("L2", classifier_rate=0.0, weight_decay=0.0)
    before = copies(model.classifier.trainable_variables)
    steps(model, 5)
    assert same(before, model.classifier.trainable_variables)


@pytest.mark.parametrize("separate", [False, True])
def test_no_gradient_of_the_score_reaches_the_classifier_through_the_maps(separate):
    model = make(ALWAYS_PAST, separate=separate)
    model.snapshots.store(model.classifier)
    with tf.GradientTape() as tape:
        score = model._objectives(*BATCH, training=True, critic=model.critic(1))["score"]
    gradients = tape.gradient(score, model.classifier.trainable_variables)
    assert all(gradient is None for gradient in gradients)


def test_the_masks_objective_moves_a_separate_encoder():
    model = make(separate=True, classifier_rate=0.0, weight_decay=0.0)
    classifier = copies(model.classifier.trainable_variables)
    encoder = copies(model.encoder.trainable_variables)
    steps(model, 2)
    assert same(classifier, model.classifier.trainable_variables)
    assert not same(encoder, model.encoder.trainable_variables)


@pytest.mark.long
def test_a_snapshot_survives_100_steps_to_the_bit_while_it_is_drawn():
    model = make(Thinning(first=True, capacity=1, probability=0.9))
    start = copies(state(model.classifier))
    steps(model, 100, compiled=True)
    assert same(start, model.snapshots.draw(0))
    moved = zip(start, copies(state(model.classifier)), strict=True)
    assert not any(np.array_equal(a, b) for a, b in moved)


def test_evaluating_a_snapshot_moves_nothing_and_gives_its_logits():
    model = make("FL")
    then = model.classifier(IMAGES, training=False)["logits"].numpy()
    steps(model, 5)
    now = copies(model.classifier.variables)
    kept = copies(model.snapshots.slots)
    weights = model.snapshots.draw(0)
    logits = model.at_rest(tf.constant(IMAGES), weights).numpy()
    assert logits == pytest.approx(then, abs=1e-5)
    assert model.classifier(IMAGES, training=False)["logits"].numpy() != pytest.approx(then)
    assert same(now, model.classifier.variables)
    assert same(kept, model.snapshots.slots)


@pytest.fixture(scope="module")
def trained():
    """A model after 20 steps, for reading only."""
    model = make("L2")
    steps(model, 20, compiled=True)
    return model


def test_20_steps_twice_from_one_seed_are_the_same_to_the_bit(trained):
    again = make("L2")
    steps(again, 20, compiled=True)
    assert same(copies(trained.variables), again.variables)
    assert same(copies(trained.snapshots.slots), again.snapshots.slots)


def test_fit_trains_as_the_loop_does(trained):
    model = make("L2")
    batches = tf.data.Dataset.from_tensors(BATCH).repeat(8)
    model.fit(batches, epochs=2, verbose=0)
    model.fit(batches.take(4), verbose=0)  # goes on at step 16, whose classifier is kept already
    for network in ("classifier", "decoder"):
        assert same(copies(getattr(trained, network).variables), getattr(model, network).variables)
    assert same(copies(trained.snapshots.slots), model.snapshots.slots)
    assert int(model.snapshots.stored) == 10


def test_evaluate_moves_nothing_and_says_how_good_both_are():
    model = make("L2", separate=True)
    steps(model, 2)
    before = copies(model.classifier.variables + model.encoder.variables + model.decoder.variables)
    results = model.evaluate(IMAGES, LABELS, batch_size=16, verbose=0, return_dict=True)
    assert same(
        before, model.classifier.variables + model.encoder.variables + model.decoder.variables
    )
    masks = model(IMAGES).numpy()
    for key, images in (("accuracy", IMAGES), ("accuracy_masked_out", IMAGES * (1 - masks))):
        logits = model.classifier(images, training=False)["logits"].numpy()
        assert results[key] == pytest.approx(np.mean(logits.argmax(-1) == LABELS))
    assert results["mask_mean"] == pytest.approx(masks.mean(), abs=1e-6)
    assert results["snapshots"] == 1


def test_every_image_counts_once_in_the_averages():
    model = make()
    whole = model.evaluate(IMAGES, LABELS, batch_size=16, verbose=0, return_dict=True)
    parts = model.evaluate(IMAGES, LABELS, batch_size=5, verbose=0, return_dict=True)
    assert parts == pytest.approx(whole, abs=1e-5)  # the last batch is of one image


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": "E"},
        {"size": "L1"},
        {"fill": "black"},
        {"classifier_form": "clean"},
        {"masked_steps": "never"},
        {"lambda_size": -1.0},
        {"classifier_form": "masked", "masked_steps": "present"},
    ],
)
def test_a_choice_that_there_is_not_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make(**wrong)


def test_a_further_critic_is_asked_instead_of_the_classifier_and_never_moves():
    other = networks.classifier("tiny", 32, 4)
    before, seen = copies(other.variables), []

    def critic(images):
        seen.append(images)
        return other(images, training=False)["logits"]

    model = make("L", masked_steps="present", further_critics=[critic])
    model.snapshots.draw_kind = lambda step, others: tf.constant(1 + others)
    masks = model(BATCH[0], training=True)
    steps(model, 1)
    np.testing.assert_allclose(seen[-1], BATCH[0] * (1 - masks), atol=1e-5)
    assert same(before, other.variables)


def test_several_steps_an_execution_are_refused():
    model = make()
    optimizers = (keras.optimizers.SGD(), keras.optimizers.Adam())
    with pytest.raises(ValueError, match="snapshots are taken between steps"):
        model.compile(*optimizers, steps_per_execution=4)


def test_a_call_and_the_mask_model_give_the_masks():
    for separate in (False, True):
        model = make(separate=separate)
        outputs = networks.mask_model(model.classifier, model.decoder, model.encoder)(IMAGES)
        masks = model(IMAGES).numpy()
        assert masks.shape == (16, SIZE, SIZE, 1)
        assert outputs["mask"].numpy() == pytest.approx(masks, abs=1e-6)
        logits = model.classifier(IMAGES, training=False)["logits"].numpy()
        assert outputs["logits"].numpy() == pytest.approx(logits, abs=1e-6)


def test_a_checkpoint_holds_everything(tmp_path):
    model, other = make("L2"), make("L2")
    steps(model, 4)
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    tf.train.Checkpoint(model=other).restore(path).assert_consumed()
    steps(model, 2)
    steps(other, 2)
    assert same(copies(model.variables), other.variables)
    assert same(copies(model.snapshots.slots), other.snapshots.slots)
    assert int(other.snapshots.stored) == 3


# === Targets that the first classifier predicts ===


def test_with_a_teacher_a_step_is_that_on_the_teachers_predictions_and_labels_do_not_matter():
    images, labels = BATCH
    told = make()
    taught = make(teacher=networks.copy(told.classifier))
    predictions = objectives.predicted(taught.teacher(images)["logits"])
    assert not np.array_equal(predictions, labels)
    told.run_step((images, predictions))
    taught.run_step((images, tf.fill(tf.shape(labels), -1)))
    assert close(taught.decoder.trainable_variables, told.decoder.trainable_variables)
    assert close(taught.classifier.trainable_variables, told.classifier.trainable_variables)


def test_a_teacher_never_moves():
    teacher = networks.copy(make().classifier)
    model = make(teacher=teacher)
    before = copies(teacher.variables)
    steps(model, 3)
    assert same(before, teacher.variables)
    assert not same(before, model.classifier.variables)
    assert float(model.test_step(BATCH)["accuracy"]) <= 1


def test_the_first_lambda_counts_for_the_first_steps_alone():
    scheduled = make(lambda_size=rates.switched(0.5, 2, 2.0))
    first = make(lambda_size=0.5)
    steps(scheduled, 2)
    steps(first, 2)
    assert close(scheduled.decoder.trainable_variables, first.decoder.trainable_variables)
    steps(scheduled, 1)
    steps(first, 1)
    assert not close(scheduled.decoder.trainable_variables, first.decoder.trainable_variables)


def test_a_model_that_would_not_load_again_is_not_saved(tmp_path):
    model = make(separate=True)
    with pytest.raises(NotImplementedError, match=r"networks\.mask_model\(model\.classifier"):
        model.save(tmp_path / "casm.keras")
    assert not list(tmp_path.iterdir())
    with pytest.raises(NotImplementedError):
        keras.saving.save_model(model, tmp_path / "casm.keras")
    networks.mask_model(model.classifier, model.decoder, model.encoder).save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    np.testing.assert_allclose(loaded(IMAGES)["mask"], model(IMAGES), atol=1e-6)
