"""From a TFDS data set to batches of normalised images with their labels and boxes."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import json_format as protobuf

import casm_tf.data.digit_scenes  # noqa: F401  (importing a builder registers it)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A prepared data set and what is to be known of its images.

    Attributes:
        builder: the TFDS builder, its data on disk.
        image_size: height and width in pixels.
        labels: the classes' names.
        mean, std: of the training images' pixels in [0, 1], red, green and blue.
    """

    builder: tfds.core.DatasetBuilder
    image_size: int
    labels: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def normalise(self, images):
        """uint8 [..., 3] -> float32 of mean 0 and deviation 1 over the training split."""
        return (tf.cast(images, tf.float32) / 255 - self.mean) / self.std

    def denormalise(self, images):
        """What `normalise` was given, float images to uint8 numpy [..., 3]."""
        images = (np.asarray(images) * self.std + self.mean) * 255
        return np.clip(np.round(images), 0, 255).astype(np.uint8)


def open_dataset(name, data_dir=None):
    """The data set of a TFDS name such as "digit_scenes/full", made first if it is not there.

    Raises ValueError for a name that TFDS does not know, for a data set without boxes or the mean
    and deviation of its pixels, and for data that is not whole; OSError for a directory that cannot
    be written in.
    """
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError, TypeError, LookupError) as error:
        # TFDS's own message lists every data set there is.
        raise ValueError(f"TFDS knows no data set {name!r}") from error
    except protobuf.Error as error:
        raise ValueError(f"the description of {name!r} in {data_dir} is cut off") from error
    info = builder.info
    if not {"image", "label", "bbox"} <= set(info.features) or not info.metadata:
        raise ValueError(f"{name!r} is not one of casm_tf's data sets, such as digit_scenes/full")
    builder.download_and_prepare()
    _check_files(builder)
    return Dataset(
        builder=builder,
        image_size=info.features["image"].shape[0],
        labels=tuple(info.features["label"].names),
        mean=tuple(info.metadata["mean"]),
        std=tuple(info.metadata["std"]),
    )


def training_batches(dataset, batch_size, seed, skip=0, smallest_crop=1.0):
    """Endless shuffled training batches: images float32 [B, H, W, 3], labels int32 [B].

    Order and crops depend on the seed alone; a resumed run skips the batches it has had.
    `smallest_crop` is of `random_resized_crops`; 1 takes whole images.
    """
    examples = (
        dataset.builder.as_dataset(split="train")
        .map(lambda example: (example["image"], tf.cast(example["label"], tf.int32)))
        .cache()  # Decoded, so that a picture is decoded once.
    )
    size = dataset.builder.info.splits["train"].num_examples

    def prepare(number, batch):
        images, labels = batch
        if smallest_crop < 1:
            images = random_resized_crops(images, smallest_crop, (seed, number))
        return dataset.normalise(images), labels

    batches = (
        examples.shuffle(size, seed=seed, reshuffle_each_iteration=True)
        .repeat()
        .batch(batch_size, drop_remainder=True)
        .enumerate()
        .skip(skip)
        .map(prepare, tf.data.AUTOTUNE)
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def random_resized_crops(images, smallest, seed):
    """A random part of each image at the image's size, as PyTorch's RandomResizedCrop takes it.

    Its share of the area is even between `smallest` and 1, its ratio of width to height between 3/4
    and 4/3, even in the logarithm; a side ends at the image's. [B, H, W, 3] -> float32 alike.
    """
    count, height, width = images.shape[0], *images.shape[1:3]
    area, ratio, *place = tf.unstack(tf.random.stateless_uniform((4, count), seed))
    area = smallest + (1 - smallest) * area
    ratio = (4 / 3) ** (2 * ratio - 1)
    sides = [tf.minimum(tf.sqrt(area / ratio), 1), tf.minimum(tf.sqrt(area * ratio), 1)]
    starts = [(1 - side) * where for side, where in zip(sides, place, strict=True)]
    ends = [start + side for start, side in zip(starts, sides, strict=True)]
    # crop_and_resize takes corners between the centres of the first and the last pixel.
    corners = tf.stack([*starts, *ends], axis=1)
    return tf.image.crop_and_resize(images, corners, tf.range(count), (height, width))


def evaluation_batches(dataset, split, batch_size):
    """The split once, in its stored order, the last batch smaller.

    Yields dicts: images float32 [B, H, W, 3], labels int32 [B], boxes int32 [B, 1, 4] (half-open
    x0, y0, x1, y1 in pixels).
    """

    def prepare(example):
        ymin, xmin, ymax, xmax = tf.unstack(example["bbox"] * dataset.image_size)
        return {
            "images": dataset.normalise(example["image"]),
            "labels": tf.cast(example["label"], tf.int32),
            "boxes": tf.cast(tf.round([[xmin, ymin, xmax, ymax]]), tf.int32),
        }

    examples = dataset.builder.as_dataset(split=split)
    batches = examples.map(prepare, tf.data.AUTOTUNE).batch(batch_size)
    return batches.prefetch(tf.data.AUTOTUNE)


def _check_files(builder):
    """Raise ValueError where a data file is missing or not as long as when it was written."""
    directory = pathlib.Path(builder.data_dir)
    remedy = "delete that folder to have it made again"
    if not builder.info.splits:
        raise ValueError(f"{directory} has no dataset_info.json: {remedy}")
    for split in builder.info.splits.values():
        paths = [pathlib.Path(path) for path in split.filepaths]
        for path in paths:
            if not path.exists():
                raise ValueError(f"{path} is missing: {remedy}")
        # A TFRecord has 16 bytes of lengths and checksums round each example.
        expected = int(split.num_bytes) + 16 * split.num_examples
        found = sum(path.stat().st_size for path in paths)
        if found != expected:
            raise ValueError(
                f"{directory}: split {split.name!r} has {found} bytes, not {expected}: {remedy}"
            )
