"""Which data there are: a TFDS data set, prepared, and what its own names for things mean here."""

import dataclasses
import pathlib
import re

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

# Importing a builder registers it.
import casm_tf.data.digit_scenes
import casm_tf.data.letter_scenes  # noqa: F401
from casm_tf.data import annotations, damage, image_folder
from casm_tf.host import files

_SIZE = 224  # of what is seen of pictures of any size, unless another is asked for
_UNLABELLED_TEST = ("imagenet2012", "voc/2012")
# What data sets call a mask, or a list of one or none.
_MASKS = ("mask", "masks", "segmentation_mask")


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

    def split(self, name):
        """What "validation" or "test" is called here: many data sets have one of them only."""
        there = set(self.builder.info.splits)
        if self.builder.info.full_name.startswith(_UNLABELLED_TEST):
            there.discard("test")
        return next((split for split in (name, "validation", "test") if split in there), name)


def open_dataset(
    name,
    data_dir=None,
    image_dir=None,
    boxes=None,
    masks=None,
    image_size=None,
    unlabelled_as=None,
):
    """The data set of a name, made or downloaded first if it is not there.

    Args:
        name: "image_folder", or what TFDS calls a data set of pictures in colour with a label (or
            labelled objects), such as "digit_scenes/full" or "caltech_birds2011".
        data_dir: where TFDS keeps its data sets; None is in the home directory.
        image_dir, boxes, masks, unlabelled_as: of `image_folder.config`. With another data set that
            has the files' names (imagenet2012) `boxes` is a folder of XML files, joined to them.
        image_size: of what the networks see; by default the pictures' own size if all have one,
            else 224.

    Raises ValueError for a name that TFDS does not know, for data of another form, for data that is
    not whole and for what `image_folder` refuses; OSError for a directory that cannot be written
    in.
    """
    if name == "image_folder":
        if image_dir is None:
            raise ValueError("image_folder needs an image_dir")
        tree = image_folder.config(image_dir, boxes, masks, unlabelled_as)
        builder, xml = image_folder.prepared(tree, data_dir), None
    else:
        if image_dir is not None or masks is not None:
            raise ValueError(f"an image_dir and masks are for image_folder; found {name!r}")
        builder, xml = _registered(name, data_dir, boxes)
    damage.check_files(builder)
    info = builder.info
    shape = info.features["image"].shape
    own = shape[0] if shape[0] == shape[1] else None
    mean, std = damage.mean_and_std(builder, image_folder.MEAN, image_folder.STD)
    return Dataset(
        builder=builder,
        image_size=image_size or own or _SIZE,
        labels=tuple(_label_feature(info.features).names),
        mean=mean,
        std=std,
        xml=xml,
    )


def of_classes(dataset, classes):
    """The data set with some of its classes only, numbered anew from 0 in their old order.

    `classes` is a range of the old numbers such as "0-499", both ends included, or the path of a
    file with a class's name in each line. Raises ValueError for what is not there, OSError for a
    file that cannot be read.
    """
    numbers = re.fullmatch(r"(\d+)-(\d+)", classes)
    if numbers:
        first, last = map(int, numbers.groups())
        chosen = range(first, min(last, len(dataset.labels)) + 1)
    else:
        lines = pathlib.Path(classes).read_text(encoding="utf-8").splitlines()
        names = {annotations.normal(line.strip()) for line in lines} - {""}
        unknown = sorted(names.difference(dataset.labels))
        if unknown:
            raise ValueError(f"{classes}: there is no class {unknown[0]!r}")
        chosen = [number for number, name in enumerate(dataset.labels) if name in names]
    if len(chosen) < 2 or chosen[-1] >= len(dataset.labels):
        raise ValueError(f"expected two or more of {len(dataset.labels)} classes; found {classes}")
    labels = tuple(dataset.labels[number] for number in chosen)
    return dataclasses.replace(dataset, labels=labels, classes=tuple(chosen))


def needed(features, masks=False):
    """Which of a data set's features are read, with the masks or without: {name: True}."""
    names = {"image", "label", "bbox", "objects", file_name(features)}
    names = (names | set(_MASKS if masks else ())) & set(features)
    parts = {"label", "bbox"}
    if "objects" in names:
        parts &= set(features["objects"].feature)
    return {name: dict.fromkeys(parts, True) if name == "objects" else True for name in names}


def labelled(dataset, examples):
    """The examples whose class is in the data set, each with its `label` there, int32.

    Where objects are labelled and pictures are not (VOC) a picture's label is that of its largest
    box; the boxes of that label become its `bbox`. A picture without an object is left out.
    """
    names = _label_feature(dataset.builder.info.features).names
    classes = range(len(names)) if dataset.classes is None else dataset.classes
    numbers = np.full(len(names), -1, np.int32)
    numbers[list(classes)] = range(len(classes))

    def label(example):
        if "label" not in example:
            boxes, labels = example["objects"]["bbox"], example["objects"]["label"]
            areas = tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=1)
            largest = labels[tf.argmax(areas)]
            example = {**example, "label": largest, "bbox": boxes[labels == largest]}
        # -1 is no label, of pictures that have none.
        found = tf.gather(numbers, tf.maximum(example["label"], 0))
        return {**example, "label": tf.where(example["label"] < 0, -1, found)}

    if "label" not in dataset.builder.info.features:
        examples = examples.filter(lambda example: tf.size(example["objects"]["label"]) > 0)
    examples = examples.map(label, tf.data.AUTOTUNE)
    if dataset.classes is not None:
        examples = examples.filter(lambda example: example["label"] >= 0)
    return examples


def boxes(dataset, example):
    """The boxes of an example of `labelled`: float32 [N, 4], ymin, xmin, ymax, xmax in [0, 1]."""
    if dataset.xml is not None:

        def read(name, label, shape):
            path = dataset.xml.get(_stem(name.decode()))
            found = np.zeros((0, 4))
            try:
                if path is not None:
                    size = tuple(shape[1::-1].tolist())
                    found, _ = annotations.clipped(
                        annotations.read_xml(path, dataset.labels[label], size)
                    )
            except (ValueError, OSError) as error:
                logging.warning("a picture's boxes are left out: %s", error)
            return found[:, [1, 0, 3, 2]].astype(np.float32)

        name = example[file_name(dataset.builder.info.features)]
        arguments = (name, example["label"], tf.shape(example["image"]))
        return tf.ensure_shape(tf.numpy_function(read, arguments, tf.float32), (None, 4))
    if "bbox" in example:
        return tf.reshape(example["bbox"], (-1, 4))
    if "bbox" in example.get("objects", {}):
        return example["objects"]["bbox"]
    return tf.zeros((0, 4))


def mask(dataset, example):
    """The mask of an example, bool [H, W], and whether it has one, a bool tensor; None without any.

    Salient is what is at least 128. Oxford's pets have 1, 2 and 3 instead: all but 2, the
    background, is salient, also the border.
    """
    name = next((name for name in _MASKS if name in example), None)
    if name is None:
        return None, None
    masks, there = example[name], tf.constant(True)
    found = masks
    if masks.shape.rank == 4:  # a list of one or none
        there = tf.shape(masks)[0] > 0
        empty = tf.zeros((*tf.unstack(tf.shape(example["image"])[:2]), 1), tf.uint8)
        found = tf.cond(there, lambda: masks[0], lambda: empty)
    if dataset.builder.name == "oxford_iiit_pet":
        return found[..., 0] != 2, there
    return found[..., 0] >= 128, there


def _registered(name, data_dir, boxes):
    """The builder of a data set of TFDS, its data on disk, and its XML files."""
    builder = _builder(name, data_dir)
    features = builder.info.features
    if (
        not isinstance(features, tfds.features.FeaturesDict)
        or "image" not in features
        or features["image"].shape[-1] != 3
        or not isinstance(_label_feature(features), tfds.features.ClassLabel)
    ):
        raise ValueError(f"{name!r} is no data set of pictures in colour, each with a label")
    xml = None
    if boxes is not None:
        if file_name(features) not in features:
            raise ValueError(f"{name!r} does not give its files' names: no boxes can be joined")
        paths = annotations.files_below(boxes, ".xml")
        xml = {_stem(name): paths[name] for name in paths}
    directory = pathlib.Path(builder.data_dir)
    if not directory.exists():  # else it may lie on a disk that is read-only
        try:
            with files.locked(directory.parent / "lock"):
                builder = _builder(name, data_dir)  # It may be there by now.
                builder.download_and_prepare()
        except (AssertionError, ImportError) as error:
            raise ValueError(f"{name!r} cannot be prepared: {error}") from error
    return builder, xml


def _builder(name, data_dir):
    with damage.naming_description(name, data_dir):
        try:
            return tfds.builder(name, data_dir=data_dir)
        except (ValueError, AssertionError, TypeError, LookupError) as error:
            # TFDS's own message lists every data set there is.
            raise ValueError(f"TFDS knows no data set {name!r}") from error


def _label_feature(features):
    """The feature that holds the classes' names, or None."""
    if "label" in features:
        return features["label"]
    if "objects" in features and "label" in features["objects"].feature:
        return features["objects"].feature["label"]
    return None


def file_name(features):
    """The name of the feature that holds a picture's file name, where there is one."""
    return "image/filename" if "image/filename" in features else "file_name"


def _stem(path):
    return annotations.normal(pathlib.PurePosixPath(path).stem)
