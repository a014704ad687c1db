"""Numbers that are not finite, a full disk, damaged data: a training ends, or goes on, as told."""

import math
import os
import pathlib
import subprocess
import sys

import faulty
import keras
import numpy as np
import pytest
import tensorflow as tf
import test_casm
from test_casm import tiny_resnet  # noqa: F401  (a fixture)

from casm_tf import networks, training
from casm_tf.pretraining import Pretraining


@pytest.fixture(scope="module")
def classifier_weights(tmp_path_factory):
    """Of an untrained classifier for digit_scenes/tiny: no pretraining is needed."""
    path = tmp_path_factory.mktemp("classifier") / "classifier.weights.h5"
    networks.classifier("small_resnet", 32, 10).save_weights(path)
    return path


def make_pretraining():
    classifier = networks.classifier("tiny", test_casm.SIZE, test_casm.CLASSES)
    return Pretraining(classifier, keras.optimizers.AdamW(0.01))


def train(model, directory, wrong, strategy=None, **options):
    """Eight steps of 8 images; copies of the state after each.

    `wrong` is {step: what a pixel of the batch's last image is}.
    """
    images = np.tile(test_casm.IMAGES[:8], (8, 1, 1, 1))
    for step, value in wrong.items():
        images[8 * step - 1, 5, 5, 0] = value
    labels = np.tile(test_casm.LABELS[:8], 8)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8, drop_remainder=True)
    copies = {}

    def after_step(step):
        copies[step] = [
            np.array(variable)
            for name, variables in model.state.items()
            if name != "snapshots"
            for variable in variables
        ]
        getattr(model, "remember", lambda step: None)(step)

    training.train(
        model,
        directory,
        strategy or tf.distribute.get_strategy(),
        training.Schedule(8, scalars_every=1, **options),
        8,
        lambda skip, part: batches.skip(skip),
        lambda part: batches.take(1),
        after_step=after_step,
    )
    return copies


@pytest.mark.parametrize(
    "make", [lambda: test_casm.make("L"), make_pretraining], ids=["masks", "pretraining"]
)
def test_a_step_that_is_not_finite_changes_nothing(make, tmp_path):
    # The square of 1e25 is infinite: so is BatchNorm's variance, while the loss is finite.
    wrong = {3: math.nan, 5: math.inf, 7: 1e25}
    copies = train(make(), tmp_path, wrong)
    for step in range(1, 9):
        assert faulty.same(copies[step - 1], copies[step]) == (step in wrong)
    assert all(np.isfinite(x).all() for x in copies[8])
    scalars = faulty.scalars(tmp_path)
    assert list(scalars["training/refused_steps"].values()) == [0, 0, 1, 1, 2, 2, 3, 3]
    for tag, values in scalars.items():
        assert all(map(math.isfinite, values.values())), tag


def test_no_checkpoint_is_written_while_steps_are_refused(tmp_path):
    options = {"checkpoint_every": 1, "refused_in_a_row": 3}
    with pytest.raises(training.NotFiniteError, match=r"to step 5,.*is .*ckpt-2$") as caught:
        train(make_pretraining(), tmp_path, dict.fromkeys((3, 4, 5), math.nan), **options)
    assert caught.value.steps == [3, 4, 5]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"ckpt-1", "ckpt-2"}


ON_TWO_REPLICAS = """
import pathlib, sys
import conftest, faulty, keras, numpy as np, tensorflow as tf, test_casm, test_faults
from casm_tf import networks
networks.RESNETS["tiny"] = networks.ResNet((1, 1, 1, 1), widths=(4, 4, 8, 8), deep_stem=False)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
model = test_casm.make("L2", strategy=strategy)
copies = test_faults.train(model, pathlib.Path(sys.argv[1]), {3: np.nan}, strategy=strategy)
assert faulty.same(copies[2], copies[3]) and not faulty.same(copies[3], copies[4])
for variable in model.variables:
    first, *others = strategy.experimental_local_results(variable.value)
    assert all(np.array_equal(first, other) for other in others), variable.path
"""


@pytest.mark.long  # 25 seconds; a process of its own, as strategies' collectives have one name
def test_what_one_replica_finds_is_refused_on_both(tmp_path):
    places = os.pathsep.join([str(pathlib.Path(__file__).parent), str(faulty.ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", ON_TWO_REPLICAS, tmp_path],
        env=os.environ | {"PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert faulty.scalars(tmp_path)["training/refused_steps"][8] == 1


def test_a_training_that_is_never_finite_ends_with_its_pictures_names(
    classifier_weights, tiny_data_dir, tmp_path
):
    run_dir = tmp_path / "run"
    where = (f"--run_dir={run_dir}", f"--data_dir={tiny_data_dir}", "--checkpoint_every=1")
    rate = ("--classifier_rate=1e30", "--refused_in_a_row=3", "--steps=20")
    given = f"--classifier_weights={classifier_weights}"
    with faulty.Training(tmp_path / "said", *faulty.SMALL, *where, *rate, given) as training_:
        code, said = training_.ended()
    assert code == 2
    refused = [line.split("\t") for line in (run_dir / "masks" / "refused.txt").open()]
    assert [int(step) for step, _ in refused] == [2] * 16 + [3] * 16 + [4] * 16
    assert "in 3 steps in a row, to step 4" in said
    assert f"the last good checkpoint is {run_dir}/masks/checkpoints/ckpt-1" in said
    assert refused[32][1].strip() in said
    reader = tf.train.load_checkpoint(run_dir / "masks" / "checkpoints" / "ckpt-1" / "variables")
    for name in reader.get_variable_to_shape_map():
        assert np.isfinite(reader.get_tensor(name)).all(), name
