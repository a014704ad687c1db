"""Classifiers that masks are looked at with: how they are given, what they see, their training."""

import json
import pathlib

import keras
import numpy as np
import programs
import pytest

from casm_tf import networks
from casm_tf.data import datasets, input_pipeline
from casm_tf.evaluation import Accuracy, other_classifiers
from casm_tf.networks import small_classifiers

DATASET = datasets.Dataset(
    builder=None, image_size=32, labels=("a", "b", "c"), mean=(0.5, 0.4, 0.2), std=(0.2, 0.3, 0.25)
)
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
IMAGES = DATASET.normalise(PIXELS).numpy()


def linear(num_classes=3, size=32, outputs=lambda logits: logits):
    """A small model whose answers differ from image to image."""
    images = keras.Input((size, size, 3))
    logits = keras.layers.Dense(num_classes, name="fc")(keras.layers.Flatten()(images))
    return keras.Model(images, outputs(logits))


def test_an_architecture_with_its_weights(tmp_path):
    keras.utils.set_random_seed(0)
    model = networks.classifier("small_resnet", 32, 3)
    file = tmp_path / "mine.weights.h5"
    model.save_weights(file)
    name, classify = other_classifiers.load(f"small_resnet:{file}", DATASET)
    assert name == "mine"
    assert (classify(IMAGES) == np.argmax(model(IMAGES)["logits"], -1)).all()


@pytest.mark.parametrize(
    "outputs",
    [lambda logits: logits, lambda logits: {"logits": logits, "other": -logits}],
    ids=["logits", "a dict"],
)
def test_a_saved_model(outputs, tmp_path):
    keras.utils.set_random_seed(0)
    model = linear(outputs=outputs)
    model.save(tmp_path / "mine.keras")
    name, classify = other_classifiers.load(str(tmp_path / "mine.keras"), DATASET)
    logits = model(IMAGES)
    logits = np.asarray(logits["logits"] if isinstance(logits, dict) else logits)
    assert name == "mine"
    assert len(set(logits.argmax(-1))) > 1
    assert (classify(IMAGES) == logits.argmax(-1)).all()


def test_an_application_of_kerass_sees_what_it_expects(tmp_path, monkeypatch):
    application = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), classes=3, classifier_activation=None
    )
    file = tmp_path / "mobilenet.weights.h5"
    application.save_weights(file)
    models = []
    monkeypatch.setattr(
        other_classifiers, "_function", lambda model: models.append(model) or np.copy
    )
    name, see = other_classifiers.load(f"keras.applications.MobileNetV2:{file}", DATASET)
    assert name == "mobilenet"
    # Pixels of 0 to 255 become -1 to 1 for this one.
    assert see(IMAGES) == pytest.approx(PIXELS / 127.5 - 1, abs=1e-5)
    for mine, saved in zip(models[0].weights, application.weights, strict=True):
        assert (mine.numpy() == saved.numpy()).all()


def test_other_numbers_of_classes_are_both_told(tmp_path):
    weights, model = tmp_path / "five.weights.h5", tmp_path / "five.keras"
    networks.classifier("small_resnet", 32, 5).save_weights(weights)
    linear(5).save(model)
    for text, file in ((f"small_resnet:{weights}", weights), (str(model), model)):
        with pytest.raises(ValueError) as caught:
            other_classifiers.load(text, DATASET)
        assert str(caught.value) == f"{file} is for 5 classes; the data set has 3"


def test_a_file_of_another_architecture_is_told_as_that(tmp_path):
    file = tmp_path / "plain.weights.h5"
    small_classifiers.plain(32, 3).save_weights(file)
    with pytest.raises(ValueError, match=f"{file} does not hold the weights of a small_resnet"):
        other_classifiers.load(f"small_resnet:{file}", DATASET)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("resnet", "ARCHITECTURE:FILE, .* found 'resnet'"),
        ("vgg:file.weights.h5", "architecture of small_resnet, .* found 'vgg:file.weights.h5'"),
        ("keras.applications.Nothing:f", r"there is no keras\.applications\.Nothing"),
        ("keras.applications.preprocess_input:f", "there is no keras.applications.preproc"),
        ("keras.applications.EfficientNetB0:f", r"EfficientNetB0 .* give it as a \.keras file"),
        ("keras.applications.Xception:f", "Xception cannot be made for images of 32 pixels"),
    ],
)
def test_what_is_no_classifier(text, line):
    with pytest.raises(ValueError, match=line) as caught:
        other_classifiers.load(text, DATASET)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["small_resnet:not/there.weights.h5", "not/there.keras"])
def test_files_that_are_not_there(text):
    with pytest.raises(FileNotFoundError, match="there is no file not/there"):
        other_classifiers.load(text, DATASET)


def test_files_of_something_else(tmp_path):
    file = tmp_path / "small.weights.h5"
    file.write_bytes(b"not weights")
    with pytest.raises(OSError, match=f"{file} is not a whole HDF5 file"):
        other_classifiers.load(f"small_resnet:{file}", DATASET)


def test_saved_models_that_do_not_fit(tmp_path):
    file = tmp_path / "model.keras"
    file.write_bytes(b"not a model")
    with pytest.raises(ValueError, match=f"{file} is not a whole model"):
        other_classifiers.load(str(file), DATASET)
    linear(size=16).save(file)
    with pytest.raises(ValueError, match=r"is for inputs \[16, 16, 3\]; the images are \[32"):
        other_classifiers.load(str(file), DATASET)
    linear(outputs=lambda logits: {"mask": logits}).save(file)
    with pytest.raises(ValueError, match=f"{file} does not give logits"):
        other_classifiers.load(str(file), DATASET)


def test_names_are_the_files_or_where_these_are_not_enough_the_texts(tmp_path):
    texts = [str(tmp_path / name) for name in ("a/one.keras", "a/two.keras", "b/one.keras")]
    for text in texts:
        pathlib.Path(text).parent.mkdir(exist_ok=True)
        linear().save(text)
    assert list(other_classifiers.load_all(texts[:2], DATASET)) == ["one", "two"]
    assert list(other_classifiers.load_all(texts, DATASET)) == texts


@pytest.fixture
def scene():
    """A red square of 8 pixels on plain blue, normalised, and a mask of exactly the square."""
    pixels = np.full((1, 32, 32, 3), (0, 0, 200), np.uint8)
    pixels[:, 8:16, 8:16] = (250, 0, 0)
    masks = np.zeros((1, 32, 32), np.float32)
    masks[:, 8:16, 8:16] = 1
    return DATASET.normalise(pixels).numpy(), masks


def test_the_views_of_an_image(scene):
    images, masks = scene
    blue = images[0, 0, 0]
    seen = other_classifiers.views(images, masks, DATASET)
    assert list(seen) == ["clean", "masked_in", "masked_out", "inpainted"]
    assert (seen["clean"] == images).all()
    assert (seen["masked_in"][:, 8:16, 8:16] == images[:, 8:16, 8:16]).all()
    assert (seen["masked_in"][masks == 0] == 0).all()
    assert (seen["masked_out"][masks == 1] == 0).all()
    assert (seen["masked_out"][masks == 0] == blue).all()
    inpainted = seen["inpainted"]
    assert inpainted.dtype == np.float32
    assert inpainted[masks == 0] == pytest.approx(np.tile(blue, (960, 1)), abs=1e-5)
    # Telea's method moves a plain colour by a few levels of 255; red is 250 levels away.
    levels = DATASET.denormalise(inpainted).astype(int)
    assert np.abs(levels - (0, 0, 200)).max() <= 12


def test_a_soft_mask_is_soft_for_all_but_inpainting(scene):
    images, masks = scene
    seen = other_classifiers.views(images, masks * np.float32(0.75), DATASET)
    inside = masks == 1
    assert seen["masked_in"][inside] == pytest.approx(0.75 * images[inside], abs=1e-6)
    assert seen["masked_out"][inside] == pytest.approx(0.25 * images[inside], abs=1e-6)
    # "volume" keeps what is above the pixel of the rank that is 0.75 * 64: nothing is, all tie.
    assert seen["inpainted"] == pytest.approx(images, abs=1e-5)


def test_each_classifiers_accuracy_on_each_view(scene):
    images, masks = scene
    red = images[0, 8, 8, 0]

    def sees_red(seen):
        """Class 1 where anything is about as red as the square."""
        return (seen[..., 0].max(axis=(1, 2)) > red - 0.5).astype(int)

    networks = {"sees_red": sees_red, "always_1": lambda seen: np.ones(len(seen), int)}
    accuracies = {name: Accuracy() for name in networks}
    for labels in ([1], [2]):
        other_classifiers.accumulate(networks, accuracies, images, np.array(labels), masks, DATASET)
    assert {name: accuracy.compute() for name, accuracy in accuracies.items()} == {
        "sees_red": {
            "top1": 0.5,
            "top1_masked_in": 0.5,
            "top1_masked_out": 0,
            "top1_inpainted": 0,
        },
        "always_1": dict.fromkeys(
            ("top1", "top1_masked_in", "top1_masked_out", "top1_inpainted"), 0.5
        ),
    }


def call(*arguments):
    return programs.call("components.classifiers", *arguments)


@pytest.mark.long
def test_the_program_trains_five_and_passes_over_those_that_are_there(tiny_data_dir, tmp_path):
    arguments = (
        f"--output_dir={tmp_path}",
        f"--data_dir={tiny_data_dir}",
        "--dataset=digit_scenes/tiny",
        "--batch_size=4",
    )
    done = call(*arguments, "--steps=2")
    assert done.returncode == 0, done.stderr
    names = ["plain", "residual", "depthwise", "wide", "residual_2"]
    assert done.stdout.splitlines()[-1].startswith("next ")
    scores = json.loads((tmp_path / "classifiers.json").read_text())
    assert list(scores) == names
    assert all(0 <= score["top1"] <= 1 and score["seconds"] > 0 for score in scores.values())
    assert sorted(path.stem for path in tmp_path.glob("*.keras")) == sorted(names)

    dataset = datasets.open_dataset("digit_scenes/tiny", str(tiny_data_dir))
    loaded = other_classifiers.load_all(
        [str(tmp_path / f"{name}.keras") for name in names], dataset
    )
    batch = next(iter(input_pipeline.evaluation_batches(dataset, "test", 8)))
    for classify in loaded.values():
        assert classify(batch["images"].numpy()).shape == (8,)
    kernels = [
        keras.models.load_model(tmp_path / f"{name}.keras", compile=False).weights[0].numpy()
        for name in ("residual", "residual_2")
    ]
    assert (kernels[0] != kernels[1]).any()

    (tmp_path / "wide.keras").unlink()
    written = {name: (tmp_path / f"{name}.keras").stat().st_mtime_ns for name in names[:3]}
    done = call(*arguments, "--steps=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is there") == 4
    assert (tmp_path / "wide.keras").exists()
    assert written == {name: (tmp_path / f"{name}.keras").stat().st_mtime_ns for name in written}

    done = call(*arguments, "--steps=3")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--steps=2; found 3" in done.stderr
