"""The exported model against Keras's, and what is refused."""

import io
import json
import resource
import signal
import subprocess
import sys

import exports
import keras
import numpy as np
import programs
import pytest
import tensorflow as tf
import trees
from PIL import Image

from casm_tf.data import crops, pictures
from casm_tf.evaluation import localization
from casm_tf.serving import decoding, export, servable


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An exported version's path."""
    directory = tmp_path_factory.mktemp("serving") / "casm"
    return exports.export_tiny(directory, metrics={"LE": 0.25})


@pytest.fixture(scope="module")
def signatures(exported):
    model = tf.saved_model.load(str(exported))
    yield model.signatures  # the model has to live as long as they are called


def test_answers_are_keras_own(signatures):
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    expected = exports.tiny_model()(exports.normalised(pixels), training=False)
    masks = expected["mask"].numpy()
    assert masks.std() > 0.05
    found = signatures["serving_default"](images=pixels)
    assert found["mask"].numpy() == pytest.approx(masks, abs=1e-5)
    probabilities = tf.nn.softmax(expected["logits"]).numpy()
    assert found["probabilities"].numpy() == pytest.approx(probabilities, abs=1e-5)
    names = [exports.LABELS[index].encode() for index in probabilities.argmax(axis=1)]
    assert found["label"].numpy().tolist() == names
    boxes = [localization.predict_box(mask) for mask in found["mask"].numpy()[..., 0]]
    assert found["box"].numpy().tolist() == (np.float32(boxes) / 32).tolist()


def test_encoded_pictures_of_any_size_give_what_their_pixels_give(signatures):
    data = [trees.encoded(trees.picture(seed, 30 + seed, 70)) for seed in range(3)]
    data.append(trees.encoded(trees.picture(3, 50, 20), "PNG"))
    seen = [
        crops.evaluation_view(pictures.decode(one), np.zeros((0, 4)), 32, "squash", 32)[0]
        for one in data
    ]
    expected = signatures["serving_default"](images=tf.stack(seen))
    found = signatures["image_bytes"](image_bytes=tf.constant(data))
    assert set(found) == set(expected) == {"mask", "box", "probabilities", "label"}
    assert found["mask"].numpy() == pytest.approx(expected["mask"].numpy(), abs=1e-5)
    assert found["box"].numpy().tolist() == expected["box"].numpy().tolist()
    assert found["label"].numpy().tolist() == expected["label"].numpy().tolist()

    pngs = signatures["mask_png_bytes"](image_bytes=tf.constant(data))
    assert set(pngs) == {"mask_png_bytes", "box", "probabilities", "label"}
    for png, mask in zip(pngs["mask_png_bytes"].numpy(), found["mask"].numpy(), strict=True):
        image = np.asarray(Image.open(io.BytesIO(png)))
        assert image.tolist() == np.round(255 * mask[..., 0]).astype(np.uint8).tolist()


@pytest.mark.parametrize("signature", ["image_bytes", "mask_png_bytes"])
@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "expected the bytes of a JPEG or PNG file"),
        (b"no picture", "expected the bytes of a JPEG or PNG file"),
        (trees.encoded(trees.picture(), "GIF"), "expected the bytes of a JPEG or PNG file"),
        (trees.encoded(trees.picture(), "BMP"), "expected the bytes of a JPEG or PNG file"),
        (trees.encoded(trees.picture(), "PNG")[:20], "expected the bytes of a JPEG or PNG file"),
        (trees.encoded(trees.picture())[:-300], "Invalid JPEG data"),
        (trees.encoded(trees.picture())[:3], "Invalid JPEG data"),
        (trees.encoded(trees.picture(), "PNG")[:-300], "Invalid PNG data"),
    ],
    ids=["empty", "text", "GIF", "BMP", "PNG's start", "cut JPEG", "JPEG's start", "cut PNG"],
)
def test_what_is_no_picture_fails_and_says_why(signature, data, message, signatures):
    good = trees.encoded(trees.picture())
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures[signature](image_bytes=tf.constant([good, data]))
    assert len(signatures[signature](image_bytes=tf.constant([good]))["box"]) == 1


def test_a_fresh_process_needs_neither_keras_nor_us(exported, tmp_path):
    path = tmp_path / "사진.jpg"
    trees.write(path)
    code = (
        "import json, pathlib, sys\n"
        "sys.modules['keras'] = sys.modules['casm_tf'] = None  # cannot be imported\n"
        "import tensorflow as tf\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "data = tf.constant([pathlib.Path(sys.argv[2]).read_bytes()] * 2)\n"
        "outputs = model.signatures['image_bytes'](image_bytes=data)\n"
        "print(json.dumps(outputs['mask'].numpy().tolist()))\n"
    )
    done = programs.run([sys.executable, "-c", code, exported, path], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = np.array(json.loads(done.stdout))
    pixels = decoding.squashed(path.read_bytes(), exports.SIZE).numpy()[None]
    expected = exports.tiny_model()(exports.normalised(pixels), training=False)["mask"].numpy()
    assert found == pytest.approx(np.repeat(expected, 2, axis=0), abs=1e-5)


def test_what_lies_beside_the_model(exported):
    description = json.loads((exported / "assets.extra" / "casm.json").read_text())
    assert description == {
        "labels": list(exports.LABELS),
        "image_size": 32,
        "mean": list(exports.MEAN),
        "std": list(exports.STD),
        "metrics": {"LE": 0.25},
        "trained_on": None,
    }
    assert (exported / "fingerprint.pb").exists()
    assert not list(exported.parent.glob(".*"))
    assert exported.stat().st_mode & 0o777 == exported.parent.stat().st_mode & 0o777


@pytest.mark.parametrize("shape", [(1,), (1, 2), (1, 16, 32, 3), (1, 32, 32, 4), (1, 32, 32, 3, 1)])
def test_pixels_of_another_shape_are_refused_and_do_not_end_the_process(shape, signatures):
    with pytest.raises(tf.errors.InvalidArgumentError):
        signatures["serving_default"](images=tf.zeros(shape))
    for data in (b"", [[b""]]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            signatures["image_bytes"](image_bytes=tf.constant(data))


def test_bfloat16_is_near_float32_and_leaves_the_model_as_it_is(signatures, tmp_path):
    model = exports.tiny_model()
    settings = (exports.LABELS, exports.MEAN, exports.STD)
    path = export.export_model(model, tmp_path / "casm", *settings, precision="bfloat16")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    loaded = tf.saved_model.load(str(path))
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    found = loaded.signatures["serving_default"](images=pixels)
    expected = signatures["serving_default"](images=pixels)
    for name in ("mask", "probabilities"):
        assert found[name].dtype == tf.float32
        off = np.abs(found[name].numpy() - expected[name].numpy())
        assert off.max() > 1e-4  # in float32 it would be less
        assert off.mean() < 0.02


def test_requests_to_warm_up_with_are_answered(exported, signatures):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    records = tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests"))
    asked = set()
    for record in records.as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(t)) for name, t in request.inputs.items()}
        assert request.model_spec.name == "casm"
        assert len(signatures[request.model_spec.signature_name](**inputs)["box"]) == 1
        asked.add(request.model_spec.signature_name)
    assert asked == set(signatures)


def test_versions_go_up(tmp_path):
    directory = tmp_path / "casm"
    assert export.newest_version(directory) == 0
    assert exports.export_tiny(directory) == directory / "1"
    for name in ("9", ".unfinished.x", "12.old", "latest"):
        (directory / name).mkdir()
    assert exports.export_tiny(directory) == directory / "10"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"labels": ("cat", "dog")}, "3 logits; found 2 labels"),
        ({"std": (0.2, 0.2, 0)}, "std above 0"),
        ({"mean": (0.2, 0.2)}, "three numbers"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message, tmp_path):
    settings = {"labels": exports.LABELS, "mean": exports.MEAN, "std": exports.STD, **changes}
    with pytest.raises(ValueError, match=message):
        export.export_model(exports.tiny_model(), tmp_path / "casm", **settings)
    assert not list(tmp_path.iterdir())


def export_without_room(directory):
    # What a full disk does, a limit on files' sizes does too: writing fails in the middle.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        exports.export_tiny(directory)
    except OSError as error:
        print(error)


def test_a_disk_without_room_leaves_nothing(tmp_path):
    done = programs.fork(export_without_room, tmp_path / "casm")
    assert done.returncode == 0, done.stderr
    assert "casm/1 could not be written" in done.stdout or "too large" in done.stdout
    assert not list((tmp_path / "casm").iterdir())


def test_a_full_disk_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk]
    try:
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(OSError, match=r"casm/1 could not be written|No space left"):
            exports.export_tiny(disk / "casm")
        assert not list((disk / "casm").iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


def test_images_of_any_multiple_of_32_give_what_a_network_of_that_size_gives(signatures):
    any_size = signatures["any_size"]
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    larger = exports.tiny_model(size=64)
    larger.set_weights(exports.tiny_model().get_weights())
    expected = larger(exports.normalised(pixels), training=False)
    found = any_size(images=pixels)
    assert found["mask"].numpy() == pytest.approx(expected["mask"].numpy(), abs=1e-5)
    probabilities = tf.nn.softmax(expected["logits"]).numpy()
    assert found["probabilities"].numpy() == pytest.approx(probabilities, abs=1e-5)
    assert found["box"].shape == (2, 4)
    of_its_size = signatures["serving_default"](images=pixels[:, :32, :32])["mask"].numpy()
    assert any_size(images=pixels[:, :32, :32])["mask"].numpy().tolist() == of_its_size.tolist()


@pytest.mark.parametrize("shape", [(1, 48, 48, 3), (1, 0, 0, 3), (1, 32, 64, 3), (1, 64, 64, 4)])
def test_images_of_other_sizes_are_refused_and_do_not_end_the_process(shape, signatures):
    with pytest.raises(tf.errors.InvalidArgumentError):
        signatures["any_size"](images=tf.zeros(shape))


def test_a_network_that_is_held_to_its_size_has_no_signature_for_others(tmp_path):
    model = exports.tiny_model()
    flat = keras.layers.Dense(3)(keras.layers.Flatten()(model.input))
    model = keras.Model(model.input, {"mask": model.output["mask"], "logits": flat})
    path = export.export_model(model, tmp_path, exports.LABELS, exports.MEAN, exports.STD)
    names = {"serving_default", "image_bytes", "mask_png_bytes"}
    assert set(tf.saved_model.load(str(path)).signatures) == names


def test_weights_are_read_back_by_their_names(exported, tmp_path):
    model = exports.tiny_model()
    found = servable.read_weights(exported)
    assert {"layer1_0_conv1/kernel", "conv1x1_1/kernel", "final/bias"} < set(found)
    assert {v.path: v.numpy().tolist() for v in model.variables} == {
        path: array.tolist() for path, array in found.items()
    }
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="no weights that can be read"):
            servable.read_weights(directory)


def test_float16_is_half_as_long_and_near(exported, signatures, tmp_path):
    path = exports.export_tiny(tmp_path, weights="float16")
    data = "variables/variables.data-00000-of-00001"
    sizes = [(version / data).stat().st_size for version in (path, exported)]
    assert sizes[0] < 0.55 * sizes[1]
    for name, weight in servable.read_weights(exported).items():
        kept = servable.read_weights(path)[name]
        assert kept.dtype == np.float32
        assert kept == pytest.approx(weight, rel=2e-3 if weight.ndim > 1 else 0, abs=1e-6)
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    model = tf.saved_model.load(str(path))
    for name in ("serving_default", "any_size"):
        found = model.signatures[name](images=pixels)["mask"].numpy()
        off = np.abs(found - signatures[name](images=pixels)["mask"].numpy())
        assert 0 < off.max() < 0.01
