"""casm_tf.sharpen as a process: on red squares, which the first model's masks are of."""

import json
import signal

import keras
import numpy as np
import programs
import pytest
from PIL import Image

from casm_tf import networks, pretrained
from casm_tf.data import image_folder
from casm_tf.second_stage import first_stage
from casm_tf.training import run_directory

SIZE, CLASSES = 64, 1000
SMALL = ("--round_steps=5", "--batch_size=4", "--checkpoint_every=2", "--validate_every=3")
GIVEN = ("--flagfile=configs/sharpen.flags", *SMALL, "--deterministic", "--teachers=masks")


def red_squares(folder, count, is_grey=False):
    """Pictures of a red square each, somewhere on green; or of one grey."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        picture = np.full((80, 100, 3), 120 if is_grey else (30, 140, 60), np.uint8)
        if not is_grey:
            x, y = random.integers(5, 50, 2)
            picture[y : y + 28, x : x + 36] = (220, 40, 40)
            picture += random.integers(0, 20, picture.shape).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{number:03}.png")
    return folder


def first_run(directory, labels, seed=0):
    """A run whose masks are what is red, with a classifier that knows nothing."""
    directory.mkdir()
    keras.utils.set_random_seed(seed)
    classifier = networks.classifier("small_resnet", SIZE, len(labels))
    classifier.save_weights(directory / run_directory.FIRST_CLASSIFIER)
    images = keras.Input((SIZE, SIZE, 3))
    is_red = keras.layers.Conv2D(1, 1, activation="sigmoid", name="red")
    mask = is_red(images)
    is_red.set_weights([np.float32([[[[6.0], [-6.0], [0.0]]]]), np.zeros(1, np.float32)])
    logits = keras.layers.Dense(len(labels))(keras.layers.GlobalAveragePooling2D()(images))
    keras.Model(images, {"mask": mask, "logits": logits}).save(directory / "model.keras")
    described = {
        "flags": {"classifier": "small_resnet", "dataset": "image_folder"},
        "labels": list(labels),
        "mean": image_folder.MEAN,
        "std": image_folder.STD,
        "data": {},
    }
    (directory / "run.json").write_text(json.dumps(described))
    return directory


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("sharpen")
    pictures = red_squares(root / "pictures", 80)
    return root, first_run(root / "first", pretrained.imagenet_labels()), pictures


def arguments(made, run_dir, *others):
    root, first, pictures = made
    return (
        *(*GIVEN, f"--data_dir={root / 'data'}", f"--model={first}", f"--image_dir={pictures}"),
        *(f"--run_dir={run_dir}", *others),
    )


def weights(run_dir):
    model = keras.models.load_model(run_dir / "model.keras", compile=False)
    return {v.path: v.numpy() for v in model.variables}


@pytest.fixture(scope="module")
def straight(made):
    """A run that nothing happens to."""
    run_dir = made[0] / "straight"
    done = programs.call("casm_tf.sharpen", *arguments(made, run_dir), eager=True)
    assert done.returncode == 0, done.stderr
    assert f"made  {run_dir / 'model.keras'}" in done.stdout
    assert "casm_tf.extract" in done.stdout
    return run_dir


def test_what_is_made_is_a_run_like_any_other(made, straight, tmp_path):
    run = run_directory.read(straight)
    assert run["labels"] == list(pretrained.imagenet_labels())
    picture = next(made[2].glob("*.png"))
    done = programs.call(
        "casm_tf.extract", f"--model={straight}", f"--output={tmp_path / 'masks'}", picture
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "masks" / f"{picture.stem}.mask.png").exists()
    done = programs.call("casm_tf.sharpen", *arguments(made, straight))
    assert done.returncode == 0 and "all 5 steps are done" in done.stdout, done.stderr


def test_a_kill_at_any_moment_resumes_to_the_same_bits(made, straight):
    run_dir = made[0] / "killed"
    moments = ("predictions.npz", "labels0.npz", "round0/checkpoints/ckpt-2")
    for moment in moments:
        output = made[0] / "said"
        process = programs.start(
            *(programs.run_module, "casm_tf.sharpen", *arguments(made, run_dir)),
            stdout=output,
            stderr=output,
            eager=True,
        )
        while process.poll() is None and not (run_dir / moment).exists():
            process.join(0.05)
        assert process.poll() is None, output.read_text()
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = programs.call("casm_tf.sharpen", *arguments(made, run_dir), eager=True)
    assert done.returncode == 0, done.stderr
    expected = weights(straight)
    for path, value in weights(run_dir).items():
        np.testing.assert_array_equal(value, expected[path], path)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        (("--thinning=L3",), "--thinning: is casm_tf.train's alone"),
        (("--teachers=me",), "--teachers: expected masks, activations; found ['me']"),
        (("--round_steps=3,0",), "--round_steps: expected the steps of each round"),
        (("--round_steps=3,x",), "--round_steps: invalid literal"),
        (("--model=README.md",), "--model: README.md is no mask model"),
        (("--image_dir=nowhere",), "--image_dir: there is no nowhere"),
    ],
)
def test_bad_flags_get_one_line(made, others, expected, tmp_path):
    done = programs.call("casm_tf.sharpen", *arguments(made, tmp_path / "run", *others))
    programs.assert_refused(done, expected)


@pytest.mark.parametrize(
    ("count", "is_grey", "expected"),
    [
        (20, False, "--image_dir: expected 30 training pictures or more; found"),
        (80, True, "pictures masks and colours agree; expected 15 or more"),
    ],
)
def test_pictures_that_nothing_can_be_learned_from(made, count, is_grey, expected, tmp_path):
    folder = red_squares(tmp_path / "pictures", count, is_grey)
    given = arguments(made, tmp_path / "run", f"--image_dir={folder}")
    programs.assert_refused(programs.call("casm_tf.sharpen", *given), expected, lines=None)


def test_a_signal_stops_it_and_says_so(made, tmp_path):
    output = tmp_path / "said"
    process = programs.start(
        *(programs.run_module, "casm_tf.sharpen"),
        *arguments(made, tmp_path / "run", "--round_steps=1000"),
        stdout=output,
        stderr=output,
        eager=True,
    )
    while process.poll() is None and not (tmp_path / "run/round0/checkpoints/ckpt-2").exists():
        process.join(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    said = output.read_text()
    assert "as asked; the same command resumes there" in said
    assert "made " not in said


def test_a_damaged_file_of_labels_is_named(made, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "predictions.npz").write_bytes(b"PK")
    done = programs.call("casm_tf.sharpen", *arguments(made, run_dir))
    programs.assert_refused(done, "predictions.npz is damaged; delete it", lines=None)


def test_another_first_model_does_not_resume_a_run(made, straight, tmp_path):
    other = first_run(tmp_path / "other", pretrained.imagenet_labels(), seed=1)
    done = programs.call("casm_tf.sharpen", *arguments(made, straight, f"--model={other}"))
    programs.assert_refused(done, "holds a run with --first=")


def test_a_sharpened_model_goes_on_from_its_own_weights(straight):
    first = first_stage.opened(straight)
    classifier, decoder = first.student()
    for variable in (*classifier.variables, *decoder.variables):
        np.testing.assert_array_equal(variable, first.weights[variable.path])
    before = {v.path: v.numpy() for v in first.classifier.variables}
    moved = [v.path for v in classifier.variables if not np.array_equal(v, before[v.path])]
    assert moved  # what predictions come from is the classifier as it was at first


def test_the_models_weights_have_names_of_their_own(straight):
    model = keras.models.load_model(straight / "model.keras", compile=False)
    assert len({v.path for v in model.variables}) == len(model.variables)


def test_a_model_of_other_classes_is_refused(made, tmp_path):
    other = first_run(tmp_path / "other", ("cat", "dog"))
    done = programs.call("casm_tf.sharpen", *arguments(made, tmp_path / "run", f"--model={other}"))
    programs.assert_refused(
        done,
        "expected a model of ImageNet's 1,000 classes, tench, goldfish, ...; found 2, cat, dog",
    )
