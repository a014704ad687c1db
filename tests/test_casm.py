"""Algorithm 1, step by step, on 32x32 images and the smallest networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from casm_tf import networks, objectives
from casm_tf.casm import CASM
from casm_tf.thinning import Snapshots, Thinning

SIZE, CLASSES = 32, 4
random = np.random.default_rng(0)
IMAGES = random.normal(size=(16, SIZE, SIZE, 3)).astype(np.float32)
LABELS = random.integers(0, CLASSES, 16).astype(np.int32)
BATCH = (tf.constant(IMAGES[:8]), tf.constant(LABELS[:8]))


@pytest.fixture(autouse=True, scope="module")
def tiny_resnet():
    """A ResNet of 4 to 8 channels under the name `tiny`."""
    networks.RESNETS["tiny"] = networks.ResNet((1, 1, 1, 1), widths=(4, 4, 8, 8), deep_stem=False)
    yield
    del networks.RESNETS["tiny"]


def make(
    thinning="L",
    separate=False,
    classifier_rate=0.05,
    decoder_rate=0.01,
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
        model.compile(
            keras.optimizers.SGD(classifier_rate, momentum=0.9), keras.optimizers.Adam(decoder_rate)
        )
    return model


def steps(model, count):
    """Train as training.py does, on one batch."""
    run = tf.function(model.train_step)
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


OPTIONS = {
    "F": {"thinning": "F"},
    "L": {"thinning": "L"},
    "FL": {"thinning": "FL"},
    "L2": {"thinning": "L2"},
    "ring": {"thinning": Thinning(every=1, capacity=2, overwrite="oldest")},
    "all past": {"thinning": Thinning(first=True, every=1, capacity=2, probability=0.9)},
    "C": {"score": "classification"},
    "l1": {"size": "l1", "lambda_variation": 0.1},
    "masked": {"classifier_form": "masked"},
    "present": {"thinning": "L1", "masked_steps": "present"},
    "separate": {"separate": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_choice_of_the_paper_takes_steps(options):
    model = make(**options)
    decoder = copies(model.decoder.trainable_variables)
    results = steps(model, 3)
    assert all(np.isfinite(value) for value in results.values())
    assert not same(decoder, model.decoder.trainable_variables)


def test_the_baseline_never_moves_its_classifier():
    model = make("F")
    before = copies(model.classifier.variables)
    steps(model, 5)
    assert same(before, model.classifier.variables)  # BatchNorm statistics included


def test_the_masks_objective_moves_neither_classifier_nor_shared_encoder():
    model = make("L2", classifier_rate=0.0, weight_decay=0.0)
    before = copies(model.classifier.trainable_variables)
    steps(model, 5)
    assert same(before, model.classifier.trainable_variables)


def test_the_masks_objective_moves_a_separate_encoder():
    model = make(separate=True, classifier_rate=0.0, weight_decay=0.0)
    classifier = copies(model.classifier.trainable_variables)
    encoder = copies(model.encoder.trainable_variables)
    steps(model, 2)
    assert same(classifier, model.classifier.trainable_variables)
    assert not same(encoder, model.encoder.trainable_variables)


def test_a_snapshot_survives_100_steps_to_the_bit_while_it_is_drawn():
    model = make(Thinning(first=True, capacity=1, probability=0.9))
    start = copies(
        [*model.classifier.trainable_variables, *model.classifier.non_trainable_variables]
    )
    steps(model, 100)
    assert all(
        np.array_equal(a, b) for a, b in zip(start, copies(model.snapshots.draw(0)), strict=True)
    )
    assert not same(start, model.snapshots.draw(0)[:1] + model.classifier.variables[1:])


def test_evaluating_a_snapshot_moves_nothing_and_gives_its_logits():
    model = make("FL")
    then = model.classifier(IMAGES, training=False)["logits"].numpy()
    steps(model, 5)
    now = copies(model.classifier.variables)
    kept = copies(model.snapshots.slots)
    logits = model._past(model.snapshots.draw(0), tf.constant(IMAGES)).numpy()
    assert logits == pytest.approx(then, abs=1e-5)
    assert model.classifier(IMAGES, training=False)["logits"].numpy() != pytest.approx(then)
    assert same(now, model.classifier.variables)
    assert same(kept, model.snapshots.slots)


def test_20_steps_twice_from_one_seed_are_the_same_to_the_bit():
    def weights():
        model = make("L2")
        steps(model, 20)
        return copies([*model.variables, *model.snapshots.slots])

    tf.config.experimental.enable_op_determinism()
    first, second = weights(), weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_classifiers_step_is_that_of_equation_8():
    model, peer = make(weight_decay=0.01), make(weight_decay=0.01)
    images, labels = BATCH
    with tf.GradientTape() as tape:
        clean = peer.classifier(images, training=True)
        mask = tf.stop_gradient(peer.decoder(clean["maps"], training=True))
        masked = peer.classifier(images * (1 - mask), training=True)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        loss = (loss(labels, clean["logits"]) + loss(labels, masked["logits"])) / 2
    variables = peer.classifier.trainable_variables
    gradients = tape.gradient(loss, variables)
    expected = [v - 0.05 * (g + 0.01 * v) for g, v in zip(gradients, variables, strict=True)]
    steps(model, 1)
    for found, value in zip(model.classifier.trainable_variables, expected, strict=True):
        assert found.numpy() == pytest.approx(value.numpy(), abs=1e-5)


def test_the_masks_step_climbs_the_score_of_equation_7():
    options = {"size": "l1", "weight_decay": 0.0, "lambda_variation": 0.3, "lambda_size": 0.7}
    model, peer = make("F", **options), make("F", **options)
    model.decoder_optimizer = keras.optimizers.SGD(0.1)
    images, labels = BATCH
    with tf.GradientTape() as tape:
        clean = peer.classifier(images, training=False)
        masks = peer.decoder(clean["maps"], training=True)
        masked = peer.classifier(images * (1 - masks), training=False)["logits"]
        right = objectives.is_right(clean["logits"], labels)
        entropy = tf.reduce_mean(objectives.entropy(masked) * right)
        variation = tf.reduce_mean(objectives.total_variation(masks))
        score = entropy - 0.7 * tf.reduce_mean(masks) - 0.3 * variation
    gradients = tape.gradient(score, peer.decoder.trainable_variables)
    expected = [
        v + 0.1 * g for g, v in zip(gradients, peer.decoder.trainable_variables, strict=True)
    ]
    model.train_step(BATCH)
    for found, value in zip(model.decoder.trainable_variables, expected, strict=True):
        assert found.numpy() == pytest.approx(value.numpy(), abs=1e-5)


def test_the_decoders_gradient_is_clipped():
    model = make("F", clip_norm=1e-3, weight_decay=0.0)
    model.decoder_optimizer = keras.optimizers.SGD(1.0)
    before = copies(model.decoder.trainable_variables)
    model.train_step(BATCH)
    after = copies(model.decoder.trainable_variables)
    moved = sum(np.sum((a - b) ** 2) for a, b in zip(before, after, strict=True)) ** 0.5
    assert moved == pytest.approx(1e-3, rel=1e-2)


def test_fit_trains_as_the_loop_does():
    loop, fitted = make("L2"), make("L2")
    steps(loop, 4)
    batches = tf.data.Dataset.from_tensors(BATCH).repeat(4)
    fitted.fit(batches, epochs=1, verbose=0)
    for a, b in zip(loop.variables, fitted.variables, strict=True):
        if "optimizer" not in a.path:
            assert a.numpy() == pytest.approx(b.numpy(), abs=1e-6)
    assert int(fitted.snapshots.stored) == 2
    assert set(fitted.evaluate(batches.take(1), verbose=0, return_dict=True)) >= {"accuracy"}


def test_two_replicas_take_a_step():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    model = make("L1", strategy=strategy)
    run = tf.function(lambda batch: strategy.run(model.train_step, args=(batch,)))
    batches = tf.data.Dataset.from_tensors(BATCH).repeat()
    iterator = iter(strategy.experimental_distribute_dataset(batches.unbatch().batch(8)))
    for step in range(4):
        model.remember(step)
        run(next(iterator))
    assert np.isfinite(model.get_metrics_result()["score"])
    for variable in model.trainable_variables:
        first, second = strategy.experimental_local_results(variable.value)
        assert np.array_equal(first, second)


def test_a_call_and_the_inference_model_give_the_masks():
    for separate in (False, True):
        model = make(separate=separate)
        outputs = model.inference_model()(IMAGES)
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
