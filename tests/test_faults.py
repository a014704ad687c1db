"""Numbers that are not finite, a full disk, damaged data: a training ends, or goes on, as told."""

import math

import conftest  # noqa: F401  (in a fork too: its logical devices, before any tensor)
import faulty
import keras
import numpy as np
import programs
import pytest
import tensorflow as tf
import tiny_casm
from tiny_casm import tiny_resnet  # noqa: F401  (a fixture)

from casm_tf import networks
from casm_tf.training import hooks, loop
from casm_tf.training.pretraining import Pretraining


@pytest.fixture(scope="module")
def classifier_weights(tmp_path_factory):
    """Of an untrained classifier for digit_scenes/tiny: no pretraining is needed."""
    path = tmp_path_factory.mktemp("classifier") / "classifier.weights.h5"
    networks.classifier("small_resnet", 32, 10).save_weights(path)
    return path


def make_pretraining():
    classifier = networks.classifier("tiny", tiny_casm.SIZE, tiny_casm.CLASSES)
    return Pretraining(classifier, keras.optimizers.AdamW(0.01))


def train(model, directory, wrong, strategy=None, **options):
    """Eight steps of 8 images; `wrong` is {step: what a pixel of the batch's last image is}."""
    images = np.tile(tiny_casm.IMAGES[:8], (8, 1, 1, 1))
    for step, value in wrong.items():
        images[8 * step - 1, 5, 5, 0] = value
    labels = np.tile(tiny_casm.LABELS[:8], 8)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8, drop_remainder=True)
    loop.train(
        model,
        directory,
        hooks.Schedule(8, **options),
        loop.Batches(8, lambda skip, part: batches.skip(skip), lambda part: batches.take(1)),
    )


# The square of 1e25 is infinite: so are the gradients.
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e25])
@pytest.mark.parametrize(
    "make", [lambda: tiny_casm.make("L"), make_pretraining], ids=["masks", "pretraining"]
)
def test_the_first_step_that_is_not_finite_ends_the_training(make, value, request, tmp_path):
    if not math.isnan(value):  # one of the three is compiled
        request.getfixturevalue("eagerly")
    found = "in step 3 a loss or a gradient is NaN or infinite; .*ckpt-2; "
    with pytest.raises(hooks.NotFiniteError, match=found):
        train(make(), tmp_path, {3: value, 5: math.nan}, scalars_every=4, checkpoint_every=2)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"ckpt-2"}


def test_no_checkpoint_is_written_of_a_step_that_is_not_finite(eagerly, tmp_path):
    with pytest.raises(hooks.NotFiniteError, match="in step 3 "):
        train(make_pretraining(), tmp_path, {3: math.nan}, scalars_every=8, checkpoint_every=1)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"ckpt-1", "ckpt-2"}


def train_on_two_replicas(directory):
    networks.RESNETS["tiny"] = networks.ResNet((1, 1, 1, 1), widths=(4, 4, 8, 8), deep_stem=False)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    model = tiny_casm.make("L2", strategy=strategy)
    with pytest.raises(hooks.NotFiniteError, match="in step 3 "):
        train(model, directory, {3: np.nan}, strategy=strategy)


@pytest.mark.long  # 25 seconds; a process of its own, as strategies' collectives have one name
def test_what_one_replica_finds_ends_the_training(tmp_path):
    done = programs.fork(train_on_two_replicas, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_training_that_is_never_finite_ends_with_its_pictures_names(
    classifier_weights, tiny_data_dir, tmp_path
):
    run_dir = tmp_path / "run"
    where = (f"--run_dir={run_dir}", f"--data_dir={tiny_data_dir}", "--checkpoint_every=1")
    rate = ("--classifier_rate=1e30", "--steps=20")
    given = f"--classifier_weights={classifier_weights}"
    done = programs.call("casm_tf.train", *faulty.SMALL, *where, *rate, given, eager=True)
    said = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    names = (run_dir / "masks" / "not_finite.txt").read_text().splitlines()
    assert len(names) == 16
    assert "in step 2 a loss or a gradient is NaN or infinite" in said
    assert f"the last good checkpoint is {run_dir}/masks/checkpoints/ckpt-1" in said
    assert names[0] in said
    reader = tf.train.load_checkpoint(run_dir / "masks" / "checkpoints" / "ckpt-1" / "variables")
    for name in reader.get_variable_to_shape_map():
        assert np.isfinite(reader.get_tensor(name)).all(), name
