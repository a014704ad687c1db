"""casm_tf.lambdas: dual ascent worked out by hand, and what it does to a training's masks."""

import math

import pytest
import tensorflow as tf
import tiny_casm

from casm_tf import lambdas
from casm_tf.thinning import Thinning

tiny_resnet = tiny_casm.tiny_resnet


def test_lambda_rises_where_masks_are_too_large_and_falls_where_they_are_too_small():
    multiplier = lambdas.Multiplier(0.25, start=2.0, rate=0.1, damping=0.5)
    assert float(multiplier(0)) == pytest.approx(2)
    multiplier.move(tf.constant(0.3))  # a fifth too large
    assert float(multiplier(1)) == pytest.approx(2 * math.exp(0.1 * 0.2 + 0.5 * 0.2))
    multiplier.move(tf.constant(0.25))
    assert float(multiplier(2)) == pytest.approx(2 * math.exp(0.1 * 0.2))
    multiplier.move(tf.constant(0.0))
    assert float(multiplier(3)) == pytest.approx(2 * math.exp(0.1 * 0.2 - 0.1 - 0.5))
    multiplier.move(tf.constant(1.0))  # three times too large counts as once
    assert float(multiplier(4)) == pytest.approx(2 * math.exp(0.1 * 0.2 + 0.5))


def test_damping_brings_masks_that_follow_late_to_rest_sooner():
    # Much as EfficientNet-Lite0's on Tiny ImageNet: smaller by 0.75 of the size where log lambda
    # rises by 1, but 80 steps late.
    def at_rest(damping):
        multiplier, mean, swinging = lambdas.Multiplier(0.5, 1.0, damping=damping), 0.1, 0
        for step in range(600):
            wished = 0.5 * (1 - 0.75 * (math.log(float(multiplier(step))) - 1))
            mean += (min(max(wished, 0), 1) - mean) / 80
            multiplier.move(tf.constant(mean))
            if abs(mean / 0.5 - 1) > 0.1:
                swinging = step
        return swinging

    assert at_rest(damping=2.0) < 0.8 * at_rest(damping=0.0) < 400


def test_lambda_stays_between_a_hundredth_and_a_thousand():
    for start, mean, end in ((900.0, 1.0, 1000), (0.011, 0.0, 0.01)):
        multiplier = lambdas.Multiplier(0.5, start, rate=1.0)
        for _ in range(3):
            multiplier.move(tf.constant(mean))
        assert float(multiplier(3)) == pytest.approx(end)


@pytest.mark.parametrize(("size", "start"), [(0, 1), (1, 1), (-0.1, 1), (0.3, 0), (math.nan, 1)])
def test_sizes_that_are_none_are_refused(size, start):
    with pytest.raises(ValueError, match="mask_size is above 0 and below 1"):
        lambdas.Multiplier(size, start)


def test_numbers_and_schedules_do_not_move():
    for given in (3.0, lambda step: 3.0):
        size = lambdas.made(given)
        size.move(tf.constant(1.0))
        assert size(7) == 3.0 and not size.variables


def test_a_step_moves_it_by_the_mean_of_its_masks(eagerly):
    model = tiny_casm.make(Thinning.named("L"), lambda_size=lambdas.Multiplier(0.2, 5.0, rate=0.5))
    images, labels = tiny_casm.BATCH
    mean = float(tf.reduce_mean(model(images, training=True)))
    model.run_step((images, labels))
    error = min(1, mean / 0.2 - 1)
    expected = 5 * math.exp((0.5 + 2) * error)
    assert float(model.lambda_size(1)) == pytest.approx(expected, rel=1e-4)
    # A checkpoint has both.
    kept = [float(x) for x in model.state["lambda_size"]]
    assert kept == pytest.approx([math.log(5) + 0.5 * error, error], rel=1e-4)


def test_masks_that_cover_nothing_or_everything_are_warned_of():
    assert lambdas.warning_of_masks(0.3) is None
    vanished, all_of_it = lambdas.warning_of_masks(1e-13), lambdas.warning_of_masks(0.999)
    assert "the masks have vanished, their mean is 1e-13" in vanished and "lower" in vanished
    assert "the masks cover everything, their mean is 1 " in all_of_it and "higher" in all_of_it
