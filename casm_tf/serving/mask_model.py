"""Masks in three lines: model = MaskModel.load(); masks = model(pictures)."""

import dataclasses
import os
import pathlib
import urllib.parse

import numpy as np
from PIL import Image, ImageOps

from casm_tf import pretrained
from casm_tf.data import pictures
from casm_tf.host import files, imports
from casm_tf.serving import client, masks

DESCRIPTION = "assets.extra/casm.json"  # in an exported model's directory


class MaskModel:
    """Pictures -> masks, by a model on this machine or on a server; made by `load`.

    Attributes:
        image_size: pixels a side of what the network sees: a picture as a whole, made square.
        trained_on: the name of the data set it was trained on; None where that is not known.
    """

    def __init__(self, backend):
        self._backend = backend
        self.image_size = backend.image_size
        self.trained_on = getattr(backend, "trained_on", None)

    @classmethod
    def load(cls, source=None, image_size=None):
        """A model from where it is.

        Args:
            source: None, the model for photographs that comes with the package; what
                components.pusher made, such as serving/casm, of which the newest version is taken,
                or serving/casm/1; a run of casm_tf.train or its model.keras; or a server's model,
                http://HOST:PORT/v1/models/NAME (REST; with /versions/N or not) or
                grpc://HOST:PORT/NAME, for which the package tensorflow-serving-api is needed. A
                SavedModel is a program: take it from trusted places only.
            image_size: a multiple of 32 other than the model's own, for a model on this machine:
                larger is slower and follows the edges more closely.

        Raises:
            ValueError: there is no mask model, or it takes no images of that size.
            OSError: a run's files cannot be read.
            client.ServerError: a server does not answer.
            ImportError: the package for grpc is not there.
        """
        source = located(source)
        if isinstance(source, str):
            if image_size is not None:
                raise ValueError(f"{source} has a size of its own; found image_size {image_size}")
            if source.startswith("grpc"):  # a REST server's answers are JSON
                _import_tensorflow()
            return cls(client.open_server(source))
        is_exported = (source / "saved_model.pb").exists()
        return cls((_open_exported if is_exported else _open_run)(source, image_size))

    def __call__(self, pictures, batch_size=16):
        """The `masks.Mask` of a picture, or a list of them for a list.

        A picture is a path, a Pillow image or a uint8 array [H, W, 3], of any size; grey ones and
        ones with transparency, which is laid on white, are taken too.

        Raises ValueError that names the picture for what cannot be read, client.ServerError where a
        server fails.
        """
        if not isinstance(pictures, (list, tuple)):
            return self([pictures])[0]
        found = []
        for start in range(0, len(pictures), batch_size):
            batch = []
            for number, picture in enumerate(pictures[start : start + batch_size], start):
                try:
                    batch.append(self.read(picture))
                except ValueError as error:
                    name = picture if _is_path(picture) else f"picture {number}"
                    raise ValueError(f"{name}: {error}") from error
            found += self.look(batch)
        return found

    def read(self, picture):
        """A picture as `look` takes it; raises ValueError for one that cannot be read."""
        if _is_path(picture):
            # At least twice the size: JPEG's own reduction is not as smooth as what follows.
            image = pictures.open_rgb(picture, at_least=2 * self.image_size)
            size = pictures.whole_size(picture, image)

            def opened():
                return pictures.open_rgb(picture)
        else:
            image = _converted(picture)
            size = image.size
            opened = image.copy
        side = self.image_size
        seen = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
        return Seen(seen, size, opened)

    def look(self, batch):
        """The masks of what `read` gave, of one forward pass."""
        if not batch:
            return []
        outputs = self._backend.predict(np.stack([seen.pixels for seen in batch]))
        rows = zip(batch, *(outputs[name] for name in masks.OUTPUTS), strict=True)
        return [
            masks.Mask(
                size=seen.size,
                box=masks.in_pixels(box, len(mask), seen.size),
                label=label,
                probability=float(probabilities.max()),
                _small=mask[..., 0],
                _open=seen.open,
            )
            for seen, mask, box, probabilities, label in rows
        ]


def located(source=None):
    """Where `MaskModel.load` finds a model: a server's address, a str, or a directory, a Path.

    That is a run's, finished or not, or an exported version's. Raises ValueError where there is no
    model.
    """
    if urllib.parse.urlsplit(str(source)).scheme in ("http", "https", "grpc"):
        return str(source)
    files.check_local(source)
    path = pathlib.Path(pretrained.MODEL if source is None else source)
    of_run = path.parent if path.name == "model.keras" else path
    for place in (of_run, path / str(newest_version(path))):
        if any((place / name).is_file() for name in ("run.json", "saved_model.pb")):
            return place
    raise ValueError(
        f"{path} is no mask model; expected a run of casm_tf.train with its run.json and "
        "model.keras, or what components.pusher made, such as serving/casm or serving/casm/1"
    )


def newest_version(directory):
    """The largest version in a served model's directory; 0 where there is none."""
    names = (path.name for path in pathlib.Path(directory).glob("*"))
    return max((int(name) for name in names if name.isascii() and name.isdecimal()), default=0)


@dataclasses.dataclass(frozen=True)
class Seen:
    """A picture as the network sees it: uint8 [S, S, 3]; its size; how it is opened again."""

    pixels: np.ndarray
    size: tuple[int, int]
    open: object


class LocalModel:
    """A model on this machine: `predict` as client.py tells of it."""

    def __init__(self, name, owner, signatures, own_size, image_size, trained_on):
        self._owner = owner  # of the weights; has to live as long as its signatures
        image_size = image_size or own_size
        if image_size % masks.STRIDE and image_size != own_size:
            raise ValueError(f"image_size is a multiple of {masks.STRIDE}; found {image_size}")
        signature = "serving_default" if image_size == own_size else "any_size"
        if signature not in signatures:
            raise ValueError(f"{name} takes images of {own_size} pixels; found {image_size}")
        self._signature = signatures[signature]
        self.image_size = image_size
        self.trained_on = trained_on

    def predict(self, images):
        import tensorflow as tf

        outputs = self._signature(images=tf.constant(images, tf.float32))
        found = {name: outputs[name].numpy() for name in masks.OUTPUTS}
        return found | {"label": [label.decode() for label in found["label"]]}


def exported(path):
    """The SavedModel that components.pusher made; ValueError where it is none, or not whole."""
    import tensorflow as tf

    try:
        with imports.uncollected(), files.literal(path) as literal:
            model = tf.saved_model.load(str(literal))
    except Exception as error:  # TensorFlow raises what a broken file leads it to.
        raise ValueError(f"{path} is not whole: {' '.join(str(error).split())}") from error
    default = model.signatures.get("serving_default")
    if default is None or not set(masks.OUTPUTS) <= set(default.structured_outputs):
        raise ValueError(f"{path} is no mask model that components.pusher exported")
    return model


def _open_exported(path, image_size):
    _import_tensorflow()
    model = exported(path)
    default = model.signatures["serving_default"]
    own_size = default.structured_input_signature[1]["images"].shape[1]
    try:
        trained_on = files.read_json(path / DESCRIPTION).get("trained_on")
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} has no {DESCRIPTION} that can be read") from error
    return LocalModel(path, model, model.signatures, own_size, image_size, trained_on)


def _open_run(run_dir, image_size):
    _import_tensorflow()
    with imports.without(*imports.OF_KERAS):
        import keras  # noqa: F401
    from casm_tf.networks import keras_files
    from casm_tf.serving import servable
    from casm_tf.training import run_directory

    run = run_directory.read(run_dir)
    model = keras_files.load_keras(run_directory.model_of(run_dir))
    module, signatures, _ = servable.servable(model, run["labels"], run["mean"], run["std"])
    own_size, trained_on = model.input_shape[1], run["flags"]["dataset"]
    return LocalModel(run_dir, module, signatures, own_size, image_size, trained_on)


def _import_tensorflow():
    """Import it without Keras, which a SavedModel does not need: half a second sooner."""
    with imports.without("keras"):
        import casm_tf.host.quiet  # noqa: F401


def _is_path(picture):
    return isinstance(picture, (str, os.PathLike))


def _converted(picture):
    """A Pillow image or an array as an upright Pillow image in RGB."""
    if isinstance(picture, np.ndarray):
        kind = f"{picture.dtype} {list(picture.shape)}"
        is_grey, is_coloured = picture.ndim == 2, picture.ndim == 3 and picture.shape[2] in (3, 4)
        if picture.dtype != np.uint8 or not (is_grey or is_coloured) or not picture.size:
            raise ValueError(f"an array is uint8 [H, W, 3]; found {kind}")
        picture = Image.fromarray(np.ascontiguousarray(picture))
    if not isinstance(picture, Image.Image):
        raise ValueError(
            f"expected a path, a Pillow image or a uint8 array; found {type(picture).__name__}"
        )
    try:
        return pictures.in_rgb(ImageOps.exif_transpose(picture))
    except Exception as error:  # Pillow raises whatever a broken file leads it to.
        raise ValueError(" ".join(str(error).split())) from error
