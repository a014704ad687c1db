"""MaskModel: from a picture to its mask, by every kind of model, and what is refused."""

import json
import sys

import exports
import keras
import numpy as np
import programs
import pytest
import tensorflow as tf
import trees
from PIL import Image

import casm_tf
from casm_tf import MaskModel, networks
from casm_tf.data import pictures
from casm_tf.serving import export, masks


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An exported version's path."""
    directory = tmp_path_factory.mktemp("serving") / "casm"
    return exports.export_tiny(directory, trained_on="photographs")


@pytest.fixture(scope="module")
def model(exported):
    return MaskModel.load(exported)


def turned(path, orientation, image):
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(image).save(path, exif=tags)


def test_nothing_is_imported_before_it_is_used(exported):
    code = (
        "import sys, casm_tf\n"
        "assert not {'numpy', 'PIL', 'tensorflow'} & set(sys.modules)\n"
        "from casm_tf import MaskModel\n"
        "assert not {'cv2', 'keras', 'tensorflow', 'tqdm'} & set(sys.modules)\n"
        "MaskModel.load(sys.argv[1])\n"
        "assert not {'cv2', 'keras', 'tensorflow_datasets', 'tqdm'} & set(sys.modules)\n"
        "import keras\n"  # which can be had afterwards
        "keras.Sequential([keras.layers.Dense(1)])(keras.ops.ones((1, 1)))\n"
    )
    done = programs.run([sys.executable, "-c", code, exported])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_extract_starts_without_keras():
    code = "import sys, casm_tf.extract; assert not {'keras', 'sklearn'} & set(sys.modules)"
    done = programs.run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr


def test_the_package_offers_what_the_library_is_about():
    assert {"CASM", "MaskModel", "Snapshots", "Thinning"} == set(casm_tf.__all__)
    assert casm_tf.Thinning.named("L100").every == 100
    with pytest.raises(AttributeError, match="no attribute 'Mask'"):
        casm_tf.Mask  # noqa: B018


def test_one_picture_gives_a_mask_and_a_list_a_list(model, tmp_path):
    image = trees.picture(0, 40, 60)
    path = tmp_path / "a.png"
    trees.write(path, image)
    one = model(path)
    assert one.size == (60, 40) and one.mask.shape == (40, 60) and one.mask.dtype == np.float32
    assert one.mask.min() >= 0 and one.mask.max() <= 1
    assert one.boxes[0] == one.box
    assert one.label in exports.LABELS and 1 / 3 <= one.probability <= 1
    found = model([path, str(path), Image.fromarray(image), image], batch_size=3)
    assert len(found) == 4
    for other in found:
        assert (other.size, other.box, other.label) == (one.size, one.box, one.label)
        assert other.mask == pytest.approx(one.mask, abs=1e-5)
    assert model([]) == []
    assert model.trained_on == "photographs"


def test_the_cutout_and_the_overlay_are_of_the_picture(model):
    image = trees.picture(0, 40, 60)
    mask = model(image)
    cutout = mask.cutout()
    assert (cutout.mode, cutout.size) == ("RGBA", (60, 40))
    assert np.asarray(cutout)[..., :3].tolist() == image.tolist()
    assert np.asarray(cutout)[..., 3] == pytest.approx(255 * mask.mask, abs=2)
    assert (mask.overlay().mode, mask.overlay().size) == ("RGB", (60, 40))
    assert np.asarray(mask.picture()).tolist() == image.tolist()  # cutout() left it as it was


def test_overlay_is_grey_with_orange_where_the_mask_is():
    image = Image.new("RGB", (40, 40), (200, 40, 40))
    small = np.zeros((4, 4), np.float32)
    small[:, 2:] = 1
    mask = masks.Mask((40, 40), None, "cat", 1.0, small, image.copy)
    overlay = np.asarray(mask.overlay(), int)
    grey = round(0.299 * 200 + 0.587 * 40 + 0.114 * 40)
    assert abs(overlay[20, 5] - grey).max() <= 3
    assert abs(overlay[20, 30] - (0.3 * grey + 0.7 * np.array([230, 159, 0]))).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_picture_is_seen_as_it_is_looked_at(suffix, orientation, model, tmp_path):
    path = tmp_path / f"photo.{suffix}"
    turned(path, orientation, trees.picture(5, 400, 600))  # large: decoded at a part of its size
    upright = pictures.open_rgb(path)
    found, opened = model([path, Image.open(path)])
    expected = model(np.asarray(upright))
    for mask in (found, opened):
        assert mask.size == upright.size == expected.size
        assert np.abs(mask.mask - expected.mask).mean() < 0.01  # one that is turned is off by 0.1
        assert mask.cutout().convert("RGB").tobytes() == upright.tobytes()


def test_pictures_of_every_kind(model, tmp_path):
    plain = Image.fromarray(trees.picture(0, 40, 60))
    clear = plain.copy()
    clear.putalpha(128)
    deep = Image.fromarray(np.full((40, 60), 40_000, np.uint16))
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    for name, image in {"cmyk.jpg": plain.convert("CMYK"), "deep.png": deep}.items():
        image.save(tmp_path / name)
    clear.save(tmp_path / "clear.png")
    given = [
        *(tmp_path / name for name in ("moving.gif", "cmyk.jpg", "deep.png", "clear.png")),
        *(plain.convert(mode) for mode in ("L", "1", "P", "CMYK", "RGBA", "I", "LA")),
        *(deep, clear, trees.picture(0, 40, 60)[..., 0], np.asarray(clear)),
        *(np.zeros((1, 1, 3), np.uint8), np.zeros((20, 30_000, 3), np.uint8)),
    ]
    found = model(given)
    assert [mask.mask.shape for mask in found] == [(40, 60)] * 15 + [(1, 1), (20, 30_000)]
    for mask in found:
        assert mask.cutout().size == mask.overlay().size == mask.opacity().size
    assert model(tmp_path / "deep.png").picture().getpixel((0, 0)) == (156, 156, 156)


@pytest.mark.parametrize(
    "picture, message",
    [
        (np.zeros((8, 8, 3)), r"an array is uint8 \[H, W, 3\]; found float64 \[8, 8, 3\]"),
        (np.zeros((8, 8, 3), np.float32), "found float32"),
        (np.zeros((8, 8, 3), np.int64), "found int64"),
        (np.zeros((8, 8, 2), np.uint8), r"found uint8 \[8, 8, 2\]"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"found uint8 \[2, 8, 8, 3\]"),
        (np.zeros((0, 8, 3), np.uint8), r"found uint8 \[0, 8, 3\]"),
        (7, "found int"),
        (None, "found NoneType"),
        (b"bytes", "found bytes"),
        ("missing.jpg", "missing.jpg: .*No such file"),
        (".", "Is a directory"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(picture, message, model):
    with pytest.raises(ValueError, match=message) as error:
        model(picture)
    assert "\n" not in str(error.value)
    good = trees.picture()
    name = picture if isinstance(picture, str) else "picture 2"
    with pytest.raises(ValueError, match=name):
        model([good, good, picture], batch_size=2)


def test_files_that_are_no_pictures_are_named(model, tmp_path):
    for name, data in {"text.jpg": b"no picture", "empty.png": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=rf"{name}: no picture"):
            model([trees.picture(), tmp_path / name])


def test_a_file_that_changes_is_told_of(model, tmp_path):
    path = tmp_path / "a.png"
    trees.write(path, trees.picture(0, 40, 60))
    mask = model(path)
    trees.write(path, trees.picture(0, 40, 61))
    with pytest.raises(ValueError, match="changed while it was read"):
        mask.cutout()


def test_pixels_that_a_box_touches_count():
    # Cells of 2.5 x 1.25 pixels: columns 2.5 to 5, rows 1.25 to 3.75.
    assert masks.in_pixels(np.float32([0.25, 0.25, 0.5, 0.75]), 4, (10, 5)) == (2, 1, 5, 4)
    assert masks.in_pixels(np.zeros(4, np.float32), 4, (10, 5)) is None
    thirds = np.float32([10, 20, 30, 40]) / np.float32(224)
    assert masks.in_pixels(thirds, 224, (448, 224)) == (20, 20, 60, 40)


def test_a_reduced_jpeg_is_seen_as_the_whole_one(model, tmp_path):
    path = tmp_path / "large.jpg"
    Image.fromarray(trees.picture(0, 640, 960)).save(path, quality=90)
    assert pictures.open_rgb(path, at_least=64).size == (120, 80)
    whole = pictures.open_rgb(path).resize((32, 32), Image.Resampling.BILINEAR)
    seen = model.read(path)
    assert seen.pixels == pytest.approx(np.asarray(whole, float), abs=2)
    assert seen.size == (960, 640)


def test_larger_images_give_finer_masks(exported):
    finer = MaskModel.load(exported, image_size=96)
    assert finer.image_size == 96
    image = trees.picture(0, 96, 96)
    network = exports.tiny_model(size=96)
    network.set_weights(exports.tiny_model().get_weights())
    expected = network(exports.normalised(image[None]), training=False)["mask"].numpy()[0, :, :, 0]
    assert finer(image).mask == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="a multiple of 32; found 100"):
        MaskModel.load(exported, image_size=100)
    with pytest.raises(ValueError, match="has a size of its own; found image_size 64"):
        MaskModel.load("http://localhost:1/v1/models/casm", image_size=64)


def test_a_model_of_one_size_takes_no_other(tmp_path):
    model = exports.tiny_model()
    flat = keras.layers.Dense(3)(keras.layers.Flatten()(model.input))
    model = keras.Model(model.input, {"mask": model.output["mask"], "logits": flat})
    path = export.export_model(model, tmp_path, exports.LABELS, exports.MEAN, exports.STD)
    with pytest.raises(ValueError, match="takes images of 32 pixels; found 64"):
        MaskModel.load(path, image_size=64)


def test_a_run_gives_what_its_exported_model_gives(tmp_path):
    network = networks.classifier("efficientnet_lite0", 32, 3)
    decoder = networks.decoder(networks.map_shapes(network), 32, 4, "bilinear")
    outputs = network.output
    network = keras.Model(
        network.input, {"mask": decoder(outputs["maps"]), "logits": outputs["logits"]}
    )
    network.save(tmp_path / "model.keras")
    mean, std = networks.normalisation("efficientnet_lite0")
    # The data set is not there any more.
    run = {
        "flags": {"dataset": "image_folder"},
        "labels": exports.LABELS,
        "data": {},
        "versions": {},
    }
    run |= {"mean": mean, "std": std}
    with pytest.raises(ValueError, match=r"with its run\.json and model\.keras"):
        MaskModel.load(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "model.keras").rename(tmp_path / "later")
    with pytest.raises(FileNotFoundError, match="is not finished; the same train command"):
        MaskModel.load(tmp_path)
    (tmp_path / "later").rename(tmp_path / "model.keras")
    model = MaskModel.load(tmp_path)
    path = export.export_model(network, tmp_path / "casm", exports.LABELS, mean, std)
    image = trees.picture(0, 32, 32)
    found, expected = model(image), MaskModel.load(path)(image)
    assert found.mask == pytest.approx(expected.mask, abs=1e-5)
    assert (found.box, found.label) == (expected.box, expected.label)
    assert (model.image_size, model.trained_on) == (32, "image_folder")
    assert MaskModel.load(tmp_path, image_size=64)(image).mask.shape == (32, 32)


def test_models_that_are_none_are_refused(exported, tmp_path):
    for path in (exported.parent.parent, tmp_path / "missing"):
        with pytest.raises(ValueError, match=f"{path} is no mask model; expected a run"):
            MaskModel.load(path)
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(ValueError, match="is not whole"):
        MaskModel.load(tmp_path)
    other = tf.Module()
    other.call = tf.function(lambda images: images, input_signature=[tf.TensorSpec((None, 3))])
    tf.saved_model.save(other, tmp_path / "other", signatures=other.call)
    with pytest.raises(ValueError, match="no mask model"):
        MaskModel.load(tmp_path / "other")
