"""What is done after a step, each hook alone, on a model that only counts."""

import time

import faulty
import keras
import pytest
import tensorflow as tf

from casm_tf.training import hooks
from casm_tf.training.checkpoints import Checkpoints
from casm_tf.training.events import Events


class Counting:
    """Averages the numbers that it is given; in training those of the steps."""

    distribute_strategy = tf.distribute.get_strategy()

    def __init__(self):
        self.mean = keras.metrics.Mean("number")
        self.remembered = []

    def get_metrics_result(self):
        return {"number": self.mean.result()}

    def reset_metrics(self):
        self.mean.reset_state()

    def test_step(self, batch):
        self.mean.update_state(batch)

    def remember(self, step):
        self.remembered.append(step)


def step(number, last=False, finite=1.0, since=0.0):
    return hooks.Step(number, last, tf.constant(finite), since, 0.0)


def finite_hook(checkpoints):
    return hooks.Finite(checkpoints, lambda step: [], writes=False)


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints({"step": [tf.Variable(0)]}, tmp_path / "masks" / "checkpoints")


def test_a_validation_shares_no_average_with_the_steps_around_it(checkpoints, tmp_path):
    model, schedule = Counting(), hooks.Schedule(7, scalars_every=5, validate_every=3)
    events, finite = Events(tmp_path, True), finite_hook(checkpoints)
    validation = [tf.constant(100.0), tf.constant(200.0)]
    after_each_step = [
        hooks.Scalars(model, events, finite, schedule, 8, shows=False),
        hooks.Validation(model, events, finite, schedule, validation, dict, bool),
    ]
    for hook in after_each_step:
        hook.begin(0)
    for number in range(1, 8):
        model.mean.update_state(number)
        for hook in after_each_step:
            hook.after(step(number, last=number == 7))
    for hook in after_each_step:
        hook.end()
    found = faulty.scalars(tmp_path)
    assert found["validation/number"] == {3: 150, 6: 150, 7: 150}
    assert found["training/number"] == {3: 2, 5: 4.5, 6: 6, 7: 7}


def test_the_speed_is_that_of_the_steps_alone(checkpoints, tmp_path):
    events, finite = Events(tmp_path, True), finite_hook(checkpoints)
    schedule = hooks.Schedule(2, scalars_every=1)
    scalars = hooks.Scalars(Counting(), events, finite, schedule, 8, shows=False)
    scalars.begin(0)
    for number in (1, 2):  # begun a second ago, whatever came before
        scalars.after(step(number, since=time.perf_counter() - 1))
    scalars.end()
    speed = faulty.scalars(tmp_path)["speed/images_per_second"]
    assert list(speed.values()) == pytest.approx([8, 8], rel=0.2)


def test_who_does_not_write_draws_no_pictures(tmp_path):
    events = Events(tmp_path / "none", False)
    events.write(1, {"a": 1}, pictures=lambda: pytest.fail("were drawn"))
    events.close()
    assert not (tmp_path / "none").exists()


def test_the_first_step_that_is_not_finite_is_named_and_then_forgotten(checkpoints):
    finite = hooks.Finite(checkpoints, lambda step: [f"{step}.png"], writes=True)
    finite.after(step(1))
    finite.check()
    for number, value in ((2, 1.0), (3, 0.5), (4, 0.0)):
        finite.after(step(number, finite=value))
    found = r"in step 3 .*the last good checkpoint is none; .* lists .*, the first is 3.png$"
    with pytest.raises(hooks.NotFiniteError, match=found):
        finite.check()
    assert (checkpoints.directory.parent / "not_finite.txt").read_text() == "3.png\n"


def test_a_checkpoint_every_so_often_at_the_end_and_when_asked(checkpoints):
    asked, finite = [], finite_hook(checkpoints)
    hook = hooks.Checkpointing(
        checkpoints, finite, hooks.Schedule(9, checkpoint_every=2), asked.pop
    )
    asked[:] = [True, False, False, False]
    for number in (1, 2, 3):
        hook.after(step(number))
    checkpoints.wait()
    assert checkpoints.newest().name == "ckpt-2"
    with pytest.raises(hooks.StoppedError, match="masks: stopped after step 5, as asked"):
        hook.after(step(5))
    assert checkpoints.newest().name == "ckpt-5"
    asked[:] = [False]
    hook.after(step(9, last=True))
    assert checkpoints.newest().name == "ckpt-9"


def test_the_classifier_before_the_first_step_is_remembered_once():
    model = Counting()
    hooks.Remember(model).begin(3)
    hooks.Remember(model).begin(0)
    hooks.Remember(model).after(step(1))
    assert model.remembered == [0, 1]
