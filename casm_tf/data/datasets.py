"""Which data there are: a data set of TFDS or of your own pictures, prepared."""

import contextlib
import dataclasses
import difflib
import pathlib
import re
import sys

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

# Importing a builder registers it.
import casm_tf.data.digit_scenes
import casm_tf.data.letter_scenes
import casm_tf.data.tiny_imagenet  # noqa: F401
from casm_tf.data import annotations, damage, fields, image_folder
from casm_tf.host import files

# TFDS would try ten times: three minutes where there is no network.
downloader.MAX_RETRIES = 3
_SIZE = 224  # of what is seen of pictures of any size, unless another is asked for
_UNLABELLED_TEST = ("imagenet2012", "voc/2012")


class NoSuchDataError(ValueError):
    """A data set that is not known, or cannot be downloaded: the name is what is wrong."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A prepared data set and what is to be known of its images.

    Attributes:
        builder: the TFDS builder, its data on disk.
        image_size: height and width in pixels of what the networks see.
        labels: the classes' names.
        mean, std: of the training images' pixels in [0, 1], red, green and blue.
        classes: of `labels`, their numbers in the builder's data; None where all are there.
        xml: {file's stem: path} of boxes that the builder's data are without.
    """

    builder: tfds.core.DatasetBuilder
    image_size: int
    labels: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: tuple[int, ...] | None = None
    xml: dict[str, pathlib.Path] | None = None

    def normalise(self, images):
        """uint8 [..., W, 3] -> float32 of mean 0 and deviation 1 over the training split."""
        # By rows of 3 W numbers: on a CPU a broadcast over the last three takes ten times as long.
        mean, std = (
            np.tile(np.float32(three), images.shape[-2]) for three in (self.mean, self.std)
        )
        rows = tf.reshape(tf.cast(images, tf.float32), (-1, len(mean)))
        return tf.reshape((rows / 255 - mean) / std, tf.shape(images))

    def denormalise(self, images):
        """What `normalise` was given, float images to uint8 numpy [..., 3]."""
        images = (np.asarray(images) * self.std + self.mean) * 255
        return np.clip(np.round(images), 0, 255).astype(np.uint8)

    def description(self):
        """What a run keeps of its data, for JSON: labels, normalisation, and which data they are.

        An image_folder is its pictures' names and bytes, by split, wherever it lies; the boxes and
        masks, which are for scoring, may change. Others are TFDS's name, version and sizes.
        """
        info = self.builder.info
        is_folder = self.builder.name == image_folder.ImageFolder.name
        data = {"data set": self.builder.name if is_folder else info.full_name}
        for name, split in info.splits.items():
            data[name] = f"{split.num_examples} pictures"
            if is_folder:
                data[name] += f" of SHA-256 {str(info.metadata.get(f'{name}_sha256'))[:16]}"
        normalisation = {"mean": list(self.mean), "std": list(self.std)}
        return {"labels": list(self.labels), **normalisation, "data": data}

    def split(self, name):
        """What "validation" or "test" is called here: many data sets have one of them only."""
        there = set(self.builder.info.splits)
        if self.builder.info.full_name.startswith(_UNLABELLED_TEST):
            there.discard("test")
        return next((split for split in (name, "validation", "test") if split in there), name)


def open_dataset(
    name, data_dir=None, image_dir=None, boxes=None, masks=None, image_size=None, unlabelled_as=None
):
    """The data set of a name, made or downloaded first if it is not there.

    Args:
        name: "image_folder", or what TFDS calls a data set of pictures in colour with a label (or
            labelled objects), such as "digit_scenes/full" or "caltech_birds2011".
        data_dir: where TFDS keeps its data sets; None is TFDS's own choice, TFDS_DATA_DIR of the
            environment or tensorflow_datasets in the home directory.
        image_dir, boxes, masks, unlabelled_as: of `image_folder.config`. With another data set that
            has the files' names (imagenet2012) `boxes` is a folder of XML files, joined to them.
        image_size: of what the networks see; by default the pictures' own size if all have one,
            else 224.

    Raises NoSuchDataError for a name that TFDS does not know and for what cannot be
    downloaded, ValueError for data of another form, for data that is not whole and for what
    `image_folder` refuses or cannot read; OSError for a data_dir that cannot be written in.
    """
    _check_data_dir(data_dir)
    if not sys.stderr.isatty():  # there a bar is a line for each of its states
        tfds.disable_progress_bar()
    if name == image_folder.ImageFolder.name:
        if image_dir is None:
            raise ValueError("image_folder needs an image_dir")
        files.check_outside(data_dir or tfds.core.constants.DATA_DIR, image_dir)
        try:
            tree = image_folder.config(image_dir, boxes, masks, unlabelled_as)
        except OSError as error:  # an OSError is for the data_dir
            raise ValueError(str(error)) from error
        builder, xml = image_folder.prepared(tree, data_dir), None
    else:
        if image_dir is not None or masks is not None:
            _builder(name, data_dir)
            raise ValueError(f"an image_dir and masks are for image_folder; found {name!r}")
        builder, xml = _registered(name, data_dir, boxes)
    damage.check_files(builder)
    info = builder.info
    shape = info.features["image"].shape
    own = shape[0] if shape[0] == shape[1] else None
    mean, std = own_normalisation(builder)
    image_folder.check_says_of_what(builder)
    return Dataset(
        builder=builder,
        image_size=image_size or own or _SIZE,
        labels=tuple(fields.label_feature(info.features).names),
        mean=mean,
        std=std,
        xml=xml,
    )


def own_normalisation(builder):
    """The mean and deviation of a data set's pixels in [0, 1], three numbers each."""
    return damage.mean_and_std(builder, image_folder.MEAN, image_folder.STD)


def of_classes(dataset, classes):
    """The data set with some of its classes only, numbered anew from 0 in their old order.

    `classes` is a range of the old numbers such as "0-499", both ends included, or the path of a
    file with a class's name in each line, in UTF-8. Raises ValueError for what is not there,
    OSError for a file that cannot be read.
    """
    numbers = re.fullmatch(r"(\d+)-(\d+)", classes)
    if numbers:
        first, last = map(int, numbers.groups())
        chosen = range(first, min(last, len(dataset.labels)) + 1)
    else:
        lines = files.read_text(classes).splitlines()
        names = {annotations.normal(line.strip()) for line in lines} - {""}
        # Of tiny_imagenet, WordNet's numbers too.
        wnids = (dataset.builder.info.metadata or {}).get("wnids", dataset.labels)
        both = list(zip(dataset.labels, wnids, strict=True))
        unknown = sorted(names.difference(*both))
        if unknown:
            raise ValueError(f"{classes}: there is no class {unknown[0]!r}")
        chosen = [number for number, pair in enumerate(both) if names.intersection(pair)]
    if len(chosen) < 2 or chosen[-1] >= len(dataset.labels):
        raise ValueError(f"expected two or more of {len(dataset.labels)} classes; found {classes}")
    return of_labels(dataset, [dataset.labels[number] for number in chosen])


def of_labels(dataset, labels):
    """The data set with those of its classes alone that have these names; see `of_classes`."""
    chosen = tuple(number for number, name in enumerate(dataset.labels) if name in labels)
    labels = tuple(dataset.labels[number] for number in chosen)
    return dataclasses.replace(dataset, labels=labels, classes=chosen)


def _check_data_dir(data_dir):
    """Raise OSError where data cannot be kept: TFDS would make a folder ~, or none at all."""
    directory = str(data_dir or tfds.core.constants.DATA_DIR)
    try:
        files.check_local(directory)
    except ValueError as error:
        raise OSError(str(error)) from error
    if directory.startswith("~"):
        raise OSError("there is no home directory to keep the data in; name a directory")


def _registered(name, data_dir, boxes):
    """The builder of a data set of TFDS, its data on disk, and its XML files."""
    builder = _builder(name, data_dir)
    features = builder.info.features
    if (
        not isinstance(features, tfds.features.FeaturesDict)
        or "image" not in features
        or features["image"].shape[-1] != 3
        or not isinstance(fields.label_feature(features), tfds.features.ClassLabel)
    ):
        raise ValueError(f"{name!r} is no data set of pictures in colour, each with a label")
    xml = None
    if boxes is not None:
        if fields.file_name(features) not in features:
            raise ValueError(f"{name!r} does not give its files' names: no boxes can be joined")
        paths = annotations.files_below(boxes, ".xml")
        xml = {fields.stem(name): paths[name] for name in paths}
    directory = pathlib.Path(builder.data_dir)
    if not directory.exists():  # else it may lie on a disk that is read-only
        try:
            with files.locked(directory.parent / "lock"):
                builder = _builder(name, data_dir)  # It may be there by now.
                with _downloading(name):
                    builder.download_and_prepare()
        except (AssertionError, ImportError) as error:
            raise ValueError(f"{name!r} cannot be prepared: {error}") from error
    return builder, xml


def _builder(name, data_dir):
    """The builder of a name. Raises NoSuchDataError for one that TFDS does not know."""
    with damage.naming_description(name, data_dir):
        try:
            return tfds.builder(name, data_dir=data_dir)
        except (ValueError, AssertionError, TypeError, LookupError) as error:
            # TFDS's own message lists every data set there is.
            there = tfds.list_builders(with_community_datasets=False)
            like = difflib.get_close_matches(name.partition("/")[0], there, 1)
            hint = f"; did you mean {like[0]}?" if like and not name.startswith(like[0]) else ""
            raise NoSuchDataError(f"TFDS knows no data set {name!r}{hint}") from error


@contextlib.contextmanager
def _downloading(name):
    """Turn what TFDS raises for a file that it does not get into a NoSuchDataError."""
    try:
        yield
    except downloader.requests.RequestException as error:
        where = f" from {error.request.url}" if error.request is not None else ""
        raise NoSuchDataError(f"{name!r} cannot be downloaded{where} (no network?)") from error
    except tfds.download.DownloadError as error:
        raise NoSuchDataError(f"{name!r} cannot be downloaded: {error}") from error
