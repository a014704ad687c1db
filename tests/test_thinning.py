"""Which classifiers are kept, what goes when the ring is full, and what is drawn."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from casm_tf.thinning import Snapshots, Thinning


@pytest.fixture
def classifier():
    """The smallest model with trainable weights and BatchNorm statistics."""
    return keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])


def fill(classifier, value):
    """Give every weight and statistic one value."""
    classifier.set_weights([np.full(weight.shape, value) for weight in classifier.weights])


def values(snapshots):
    """The value of each slot, which has to be one in all its weights."""
    slots = np.concatenate([slots.numpy() for slots in snapshots.slots], axis=1)
    assert np.all(slots == slots[:, :1])
    return slots[:, 0].tolist()


@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("F", []),
        ("L", []),
        ("FL", [0]),
        ("L2", [2, 4, 6]),
        ("L3", [3, 6]),
        ("L100", []),
    ],
)
def test_what_the_papers_strategies_keep(name, due):
    thinning = Thinning.named(name)
    assert [step for step in range(8) if thinning.is_due(step)] == due
    assert thinning.fixed == (name == "F")


def test_the_first_classifier_alone_as_critic_is_not_the_baseline():
    thinning = Thinning.named("FL", probability=1.0)  # the classifier moves, its critic does not
    assert not thinning.fixed
    assert thinning.is_due(0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": -1},
        {"every": 1, "capacity": 0},
        {"fixed": True, "first": True},
        {"probability": 1.1},
    ],
)
def test_a_thinning_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="found"):
        Thinning(**wrong)


def test_l100_and_l1000_are_the_papers():
    for name, every in (("L100", 100), ("L1000", 1000)):
        thinning = Thinning.named(name)
        assert (thinning.every, thinning.capacity) == (every, 30)
        assert thinning.is_due(every)


@pytest.mark.parametrize("name", ["", "f", "L0", "L-1", "L1.5", "LF", "100"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="F, L, FL or L<n>"):
        Thinning.named(name)


def test_a_snapshot_is_a_copy(classifier):
    snapshots = Snapshots(classifier, Thinning(every=1, capacity=2))
    fill(classifier, 1.0)
    snapshots.store(classifier)
    fill(classifier, 5.0)
    assert values(snapshots) == [1.0, 0.0]
    assert [weight.numpy().tolist() for weight in snapshots.draw(0)] == [[1.0, 1.0]] * 4


def test_snapshots_in_bfloat16_are_drawn_in_float32(classifier):
    snapshots = Snapshots(classifier, Thinning(every=1, capacity=2), dtype="bfloat16")
    fill(classifier, 1.0009765625)  # 1 + 2^-10: bfloat16 has 7 bits after the point
    snapshots.store(classifier)
    assert {weight.dtype for weight in snapshots.draw(0)} == {tf.float32}
    assert [weight.numpy().tolist() for weight in snapshots.draw(0)] == [[1.0, 1.0]] * 4


def test_there_are_never_more_than_the_capacity(classifier):
    snapshots = Snapshots(classifier, Thinning(every=1, capacity=3))
    held = []
    for _ in range(8):
        snapshots.store(classifier)
        held.append(int(snapshots.held()))
    assert held == [1, 2, 3, 3, 3, 3, 3, 3]
    assert {slots.shape[0] for slots in snapshots.slots} == {3}


def test_a_random_one_goes_as_in_the_paper(classifier):
    overwritten = set()
    for seed in range(20):
        snapshots = Snapshots(classifier, Thinning(every=1, capacity=3), seed)
        for value in (1, 2, 3, 9):
            fill(classifier, value)
            snapshots.store(classifier)
        kept = values(snapshots)
        overwritten.add(kept.index(9.0))
        kept.remove(9.0)
        assert len({1.0, 2.0, 3.0} & set(kept)) == 2
    assert overwritten == {0, 1, 2}


def test_draws_depend_on_seed_and_step_alone_and_are_even(classifier):
    snapshots = Snapshots(classifier, Thinning(every=1, capacity=3, probability=0.25), seed=4)
    for value in (1, 2, 3):
        fill(classifier, value)
        snapshots.store(classifier)
    again = Snapshots(classifier, Thinning(every=1, capacity=3, probability=0.25), seed=4)
    for slots, others in zip(again.slots, snapshots.slots, strict=True):
        slots.assign(others)
    again.stored.assign(3)

    drawn = [float(snapshots.draw(step)[0][0]) for step in range(600)]
    past = [bool(snapshots.draws_past(step)) for step in range(600)]
    backwards = [float(again.draw(step)[0][0]) for step in reversed(range(600))]
    assert backwards[::-1] == drawn
    assert [bool(again.draws_past(step)) for step in range(600)] == past
    # Four standard deviations: 4 sqrt(600 p (1 - p))
    assert np.bincount(np.array(drawn, int))[1:] == pytest.approx(200, abs=47)
    assert sum(past) == pytest.approx(150, abs=43)
    # Which one is drawn has nothing to do with whether one is: 150 / 3 each.
    assert np.bincount(np.array(drawn, int)[past])[1:] == pytest.approx(50, abs=27)


def test_every_architecture_is_the_critic_as_often_and_the_first_as_its_thinning_says(classifier):
    snapshots = Snapshots(classifier, Thinning(every=1, capacity=3, probability=0.25), seed=4)
    snapshots.store(classifier)
    kinds = [int(snapshots.draw_kind(step, 2)) for step in range(900)]
    present, kept, *others = np.bincount(kinds)
    # Four standard deviations of 300 in 900
    assert [present + kept, *others] == pytest.approx([300] * 3, abs=57)
    assert kept == pytest.approx(75, abs=35)
    alone = [int(snapshots.draw_kind(step, 0)) for step in range(40)]
    assert alone == [int(snapshots.draws_past(step)) for step in range(40)]


def test_a_draw_does_not_depend_on_the_integers_type(classifier):
    snapshots = Snapshots(classifier, Thinning.named("L1"), seed=1)
    snapshots.store(classifier)
    draws = [
        [bool(snapshots.draws_past(tf.cast(step, dtype))) for step in range(40)]
        for dtype in (tf.int32, tf.int64)
    ]
    assert draws[0] == draws[1]


def test_draws_are_the_same_in_a_graph_and_others_with_another_seed(classifier):
    def draws(seed, function):
        snapshots = Snapshots(classifier, Thinning(every=1, capacity=30), seed)
        for value in range(30):
            fill(classifier, value)
            snapshots.store(classifier)
        draw = function(lambda step: (snapshots.draw(step)[0][0], snapshots.draws_past(step)))
        steps = tf.range(20, dtype=tf.int64)
        return [tuple(map(float, draw(step))) for step in steps]

    assert draws(1, tf.function) == draws(1, lambda eager: eager)
    assert draws(1, tf.function) != draws(2, tf.function)


def test_empty_slots_are_not_drawn(classifier):
    snapshots = Snapshots(classifier, Thinning(every=1, capacity=10))
    for value in (1, 2):
        fill(classifier, value)
        snapshots.store(classifier)
    drawn = [int(snapshots.draw(step)[0][0]) for step in range(200)]
    # Four standard deviations: 4 sqrt(200 / 4)
    assert drawn.count(1) == pytest.approx(100, abs=28)
    assert drawn.count(2) == 200 - drawn.count(1)


def test_nothing_is_drawn_before_something_is_kept(classifier):
    snapshots = Snapshots(classifier, Thinning(every=1, capacity=3, probability=1.0))
    assert not snapshots.draws_past(0)
