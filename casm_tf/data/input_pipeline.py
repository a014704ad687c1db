"""From a data set to batches of normalised images with their labels and boxes."""

import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from casm_tf import networks, pretrained
from casm_tf.data import crops, datasets, fields

KEPT_BYTES = 2**31  # Decoded pictures are kept in memory where they are no more than this,
_BUFFER_BYTES = 2**29  # and so much of the others' files is shuffled at a time.


def of_all_classes(settings, data_dir=None):
    """The data set that flags {name: value} name, in their data_dir or in another one.

    It is normalised as the run's classifier expects. Pictures of an image_folder whose targets are
    predictions need no labels; their classes are ImageNet's 1,000. Raises what `open_dataset`
    raises.
    """
    # A run may be older than some of these flags.
    is_unlabelled = (
        settings["dataset"] == "image_folder" and settings.get("targets") == "predictions"
    )
    dataset = datasets.open_dataset(
        settings["dataset"],
        data_dir or settings["data_dir"],
        **{name: settings.get(name) for name in ("image_dir", "boxes", "masks", "image_size")},
        unlabelled_as=pretrained.imagenet_labels() if is_unlabelled else None,
    )
    normalisation = networks.normalisation(settings["classifier"])
    if normalisation is None:
        return dataset
    mean, std = normalisation
    return dataclasses.replace(dataset, mean=mean, std=std)


def training_batches(dataset, batch_size, seed, skip=0, smallest_crop=1.0, flip=False, part=(0, 1)):
    """Endless shuffled training batches: images float32 [B, H, W, 3], labels int32 [B].

    Order, crops and flips depend on the seed alone; a resumed run skips the batches it has had.
    `smallest_crop` is the smallest share of a picture's area that is taken; 1 takes whole pictures.
    Of several workers each takes its `part` of every batch: (its number, how many there are), and B
    is that part's; `batch_size`, over all workers, is a multiple of their number.
    """
    worker, workers = part
    share = batch_size // workers
    if not _are_of_one_size(dataset):
        return _batches_of_views(dataset, batch_size, seed, skip, smallest_crop, flip, part)

    def prepare(number, batch):
        images, labels = batch
        if smallest_crop < 1:
            images = crops.random_views(images, smallest_crop, (seed, number))
        if flip:
            draws = tf.random.stateless_uniform((batch_size,), tf.random.fold_in((seed, number), 1))
            images = tf.where(draws[:, None, None, None] < 0.5, images[:, :, ::-1], images)
        start = worker * share
        return dataset.normalise(images[start : start + share]), labels[start : start + share]

    batches = (
        _shuffled(dataset, seed, lambda example: (example["image"], example["label"]))
        .batch(batch_size, drop_remainder=True)
        .enumerate()
        .skip(skip)
        .map(prepare, tf.data.AUTOTUNE)
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def names_of_batch(dataset, batch_size, seed, number):
    """The names, str, of the pictures in one of `training_batches`; its `number` is from 1.

    A name is a file's or, where the data set has none, the record's number in its data file. None
    are known where the data set has no file names and is not kept in memory: then the list is
    empty. Reads all that stands before that batch.
    """
    name = fields.file_name(dataset.builder.info.features)
    first = batch_size * (number - 1)
    if _are_kept(dataset):
        names = _shuffled(dataset, seed, lambda x: x.get(name, x["tfds_id"]), with_ids=True)
        names = names.skip(first)
    elif name in dataset.builder.info.features:
        names = _labelled_records(dataset, seed, first).map(lambda example: example[name])
    else:
        return []
    return [name.decode() for name in names.take(batch_size).as_numpy_iterator()]


def evaluation_batches(
    dataset, split, batch_size, protocol="centre_crop", resize=None, part=(0, 1), every=1
):
    """The split once, in its stored order, the last batch smaller.

    `protocol` is of `crops.evaluation_view`; `resize`, of "centre_crop", is by default the images'
    own size. A split that the data set has not is its other one (`Dataset.split`). Of several
    workers each takes its `part`: (its number, how many there are). Of the examples one in `every`
    is taken, the first among them.

    Yields dicts: images float32 [B, H, W, 3], labels int32 [B], boxes int32 [B, M, 4] (half-open
    x0, y0, x1, y1 in pixels, M of the image with the most, maybe 0) and box_counts int32 [B], how
    many of an image's M are its own. Where the data set has masks there are masks bool [B, H, W]
    and has_mask bool [B] too.
    """
    builder, size = dataset.builder, dataset.image_size
    features = builder.info.features
    needed = tfds.decode.PartialDecoding(fields.needed(features, masks=True))

    def prepare(example):
        mask, has_mask = fields.mask(dataset, example)
        image, boxes, mask = crops.evaluation_view(
            *(example["image"], fields.boxes(dataset, example)),
            *(size, protocol, resize or size, mask),
        )
        prepared = {
            "images": dataset.normalise(image),
            "labels": example["label"],
            "boxes": boxes,
            "box_counts": tf.shape(boxes)[0],
        }
        return prepared if mask is None else {**prepared, "masks": mask, "has_mask": has_mask}

    split = tfds.even_splits(dataset.split(split), part[1])[part[0]]
    examples = builder.as_dataset(split=split, decoders=needed).shard(every, 0)
    examples = fields.labelled(dataset, examples).map(prepare, tf.data.AUTOTUNE)
    batches = examples.padded_batch(batch_size)
    return batches.prefetch(tf.data.AUTOTUNE)


def _are_of_one_size(dataset):
    """Whether the pictures are all of the networks' size, and few enough to be kept decoded."""
    shape = (dataset.image_size, dataset.image_size, 3)
    return dataset.builder.info.features["image"].shape == shape and _are_kept(dataset)


def _are_kept(dataset):
    """Whether the training pictures are few enough to be kept decoded, each decoded but once."""
    info = dataset.builder.info
    split, shape = info.splits["train"], info.features["image"].shape
    if None not in shape:
        return split.num_examples * np.prod(shape) <= KEPT_BYTES
    # A file is rarely more than a quarter of its picture: beyond that no header is looked at.
    if 4 * split.num_bytes > KEPT_BYTES:
        return False
    undecoded = {"image": tfds.decode.SkipDecoding()}
    examples = dataset.builder.as_dataset(split="train", decoders=undecoded)
    sizes = examples.map(lambda example: crops.decoded_bytes(example["image"]))
    return bool(sizes.reduce(np.int64(0), lambda total, size: total + size) <= KEPT_BYTES)


def _shuffled(dataset, seed, part, with_ids=False):
    """What `part` takes of each training example, over and over, each epoch in another order."""
    read = tfds.ReadConfig(add_tfds_id=with_ids)
    needed = tfds.decode.PartialDecoding(fields.needed(dataset.builder.info.features))
    examples = dataset.builder.as_dataset(split="train", decoders=needed, read_config=read)
    examples = fields.labelled(dataset, examples).map(part)
    examples = examples.cache()  # Decoded, so that a picture is decoded once.
    size = dataset.builder.info.splits["train"].num_examples
    return examples.shuffle(size, seed=seed, reshuffle_each_iteration=True).repeat()


def _batches_of_views(dataset, batch_size, seed, skip, smallest_crop, flip, part):
    """`training_batches` of pictures of any size.

    Those that are kept decoded are read as `_shuffled`; of others no more is decoded than each
    part.
    """
    worker, workers = part
    share = batch_size // workers
    first = skip * batch_size

    def prepare(number, example):
        return crops.random_view(
            example["image"], dataset.image_size, smallest_crop, flip, tf.stack([seed, number])
        ), example["label"]

    if _are_kept(dataset):
        examples = _shuffled(dataset, seed, lambda example: example).skip(first)
    else:
        examples = _labelled_records(dataset, seed, first)
    examples = examples.enumerate(first)
    if workers > 1:  # Of what is not kept only this worker's is decoded.
        examples = examples.filter(lambda number, _: number % batch_size // share == worker)
    return (
        examples.map(prepare, tf.data.AUTOTUNE)
        .batch(share, drop_remainder=True)
        .map(lambda images, labels: (dataset.normalise(images), labels), tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def _labelled_records(dataset, seed, first):
    """Training examples over and over, their pictures not decoded, without the first so many."""
    info = dataset.builder.info
    split = info.splits["train"]
    paths = [str(path) for path in split.filepaths]
    buffer = max(1, _BUFFER_BYTES * split.num_examples // max(1, split.num_bytes))
    partial = tfds.decode.PartialDecoding(
        fields.needed(info.features), decoders={"image": tfds.decode.SkipDecoding()}
    )
    features = partial.extract_features(info.features)

    def epoch(number):
        order = tf.random.experimental.stateless_shuffle(paths, tf.stack([seed, number]))
        files = tf.data.Dataset.from_tensor_slices(order)
        records = files.interleave(tf.data.TFRecordDataset, 16, num_parallel_calls=tf.data.AUTOTUNE)
        # Of this function's graph alone: with 0, TensorFlow compares a seed that is no number yet.
        tf.compat.v1.set_random_seed(1)
        return records.shuffle(buffer, seed=seed + number)

    epochs_had = 0
    if dataset.classes is None and "label" in info.features:
        epochs_had = first // split.num_examples  # else it is not known how many an epoch has
    examples = (
        tf.data.Dataset.range(epochs_had, np.iinfo(np.int64).max)
        .flat_map(epoch)
        .map(
            lambda record: features.deserialize_example(record, decoders=partial.decoders),
            tf.data.AUTOTUNE,
        )
    )
    return fields.labelled(dataset, examples).skip(first - epochs_had * split.num_examples)
