"""Algorithm 1, step by step, on 32x32 images and the smallest networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from casm_tf import networks, objectives
from casm_tf.casm import CASM
from casm_tf.thinning import Snapshots, Thinning
from casm_tf.training import rates

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
        score = model._objectives(*BATCH, training=True, past=model.snapshots.draw(0))["score"]
    gradients = tape.gradient(score, model.classifier.trainable_variables)
    assert all(gradient is None for gradient in gradients)


def test_the_masks_objective_moves_a_separate_encoder():
    model = make(separate=True, classifier_rate=0.0, weight_decay=0.0)
    classifier = copies(model.classifier.trainable_variables)
    encoder = copies(model.encoder.trainable_variables)
    steps(model, 2)
    assert same(classifier, model.classifier.trainable_variables)
    assert not same(encoder, model.encoder.trainable_variables)


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
    logits = networks.logits(model.classifier, weights, tf.constant(IMAGES)).numpy()
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
    ],
    ids=["E", "C"],
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
        logits = critic(images * (1 - masks), training=training)["logits"]
        right, still = (tf.argmax(x, -1, labels.dtype) == labels for x in (clean["logits"], logits))
        mean = tf.reduce_mean(masks, axis=(1, 2, 3))
        if options["score"] == "entropy":
            p = tf.nn.softmax(logits)
            entropy = tf.where(right, -tf.reduce_sum(p * tf.math.log(p), -1), 0)
            score = entropy - 0.7 * mean - 0.3 * objectives.total_variation(masks)
        else:
            loss = -tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=1)
            score = loss + 0.7 * tf.nn.relu(tf.where(right & ~still, 1.0, 0.0) - mean)
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
        {"classifier_form": "clean"},
        {"masked_steps": "never"},
        {"lambda_size": -1.0},
        {"classifier_form": "masked", "masked_steps": "present"},
    ],
)
def test_a_choice_that_there_is_not_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make(**wrong)


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
    taught, told = make(), make()
    taught.teacher = networks.copy(taught.classifier)
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
