"""Thinning: any name, and any sequence of stores and draws."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fuzzing import fuzz
from hypothesis import strategies as st

from casm_tf.thinning import Snapshots, Thinning

names = st.sampled_from(["F", "L", "FL"]) | st.integers(1, 10**6).map("L{}".format)


@fuzz(100, name=names | st.text(max_size=4) | st.text("FL0123456789", max_size=4))
def test_a_thinnings_name_says_which_steps_are_kept(name):
    digits = name[1:]
    known = name in ("F", "L", "FL") or (
        name[:1] == "L" and digits.isascii() and digits.isdigit() and digits[0] != "0"
    )
    if not known:
        with pytest.raises(ValueError, match="found"):
            Thinning.named(name)
        return
    thinning = Thinning.named(name)
    every = int(digits) if digits.isdigit() else None
    assert thinning.is_due(0) == (name == "FL")
    for step in (1, 7, 100, 999, every or 1, 3 * (every or 1)):
        assert thinning.is_due(step) == (every is not None and step % every == 0)


rings = st.builds(
    Thinning,
    every=st.just(1),
    capacity=st.integers(1, 5),
    probability=st.sampled_from([0.0, 0.5, 1.0]),
)
seeds = st.sampled_from([0, -1, 2**31 - 1, 2**31, 2**63 - 1]) | st.integers(-100, 2**40)
steps = st.sampled_from([0, 1, 2**31 - 1]) | st.integers(0, 10**6)


# The smallest model with trainable weights and BatchNorm statistics.
CLASSIFIER = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])


def filled(value):
    """The classifier with every weight and statistic the value."""
    for weight in CLASSIFIER.weights:
        weight.assign(np.full(weight.shape, value))
    return CLASSIFIER


def slots_of(snapshots):
    """The value of each slot, which is one in all its weights."""
    slots = np.concatenate([tf.cast(slot, tf.float32) for slot in snapshots.slots], axis=1)
    np.testing.assert_array_equal(slots, np.broadcast_to(slots[:, :1], slots.shape))
    return slots[:, 0].tolist()


@fuzz(
    25,
    thinning=rings,
    seed=seeds,
    values=st.lists(st.integers(1, 200), max_size=9),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    step=steps,
)
def test_any_sequence_of_stores(thinning, seed, values, dtype, step):
    snapshots = Snapshots(filled(0), thinning, seed, dtype=dtype)
    assert snapshots.held() == 0 and not snapshots.draws_past(step)
    before = slots_of(snapshots)
    for count, value in enumerate(values, 1):
        snapshots.store(filled(value))
        held = int(snapshots.held())
        assert snapshots.stored == count and held == min(count, thinning.capacity)
        slots = slots_of(snapshots)
        assert len(slots) == thinning.capacity and not any(slots[held:])
        # The newest is where it was put, and nothing else has changed.
        places = [i for i in range(held) if slots[i] == value and _same_but(i, slots, before)]
        assert places
        if count <= thinning.capacity:
            assert count - 1 in places
            assert sorted(slots[:held]) == sorted(values[:count])
        drawn = snapshots.draw(step)
        assert {weight.dtype for weight in drawn} == {tf.float32}
        assert {float(x) for weight in drawn for x in weight} <= set(slots[:held])
        assert len({float(x) for weight in drawn for x in weight}) == 1
        assert [tuple(weight.shape) for weight in drawn] == [(2,)] * 4
        before = slots
    assert bool(snapshots.draws_past(step)) <= (thinning.probability > 0 and bool(values))
    assert bool(snapshots.draws_past(step)) >= (thinning.probability == 1 and bool(values))


def _same_but(place, slots, before):
    return [*slots[:place], *slots[place + 1 :]] == [*before[:place], *before[place + 1 :]]


INTEGERS = [int, np.int32, np.int64, np.uint32, tf.int32, tf.int64]


@fuzz(
    25,
    seed=seeds,
    count=st.integers(1, 8),
    capacity=st.integers(1, 5),
    asked=st.lists(st.tuples(steps, st.sampled_from(INTEGERS)), min_size=1, max_size=5),
    data=st.data(),
)
def test_draws_depend_on_seed_and_step_alone(seed, count, capacity, asked, data):
    def made():
        snapshots = Snapshots(filled(0), Thinning(every=1, capacity=capacity), seed)
        for value in range(count):
            snapshots.store(filled(value + 1))
        return snapshots

    def draws(snapshots, step):
        return float(snapshots.draw(step)[0][0]), bool(snapshots.draws_past(step))

    def typed(step, kind):
        return tf.constant(step, kind) if isinstance(kind, tf.DType) else kind(step)

    first, second = made(), made()
    assert slots_of(first) == slots_of(second)
    expected = {step: draws(first, step) for step, _ in asked}
    for step, kind in data.draw(st.permutations(asked)):
        assert draws(second, typed(step, kind)) == expected[step]


@fuzz(25, seed=seeds, step=steps, shares=st.lists(st.floats(0, 1), min_size=2, max_size=4))
def test_a_past_critic_stays_one_at_a_higher_probability(seed, step, shares):
    past = []
    for probability in sorted(shares):
        thinning = Thinning(every=1, capacity=1, probability=probability)
        snapshots = Snapshots(filled(0), thinning, seed)
        snapshots.store(filled(1))
        past.append(bool(snapshots.draws_past(step)))
    assert past == sorted(past)
