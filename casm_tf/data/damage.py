"""Which file of a prepared data set is damaged, told before a pass over it or after one failed.

with program.blaming("data_dir", damage.DamagedFileError), damage.naming_files(dataset):
    for batch in training_batches(dataset, ...):
"""

import contextlib
import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import json_format as protobuf

REMEDY = "delete that folder to have it made again"
_WALKED_BYTES = 2**30  # Of larger splits the lengths are not looked at: disks seek slowly.


class DamagedFileError(ValueError):
    """A data file that cannot be read whole: its path, and what can be done."""


@contextlib.contextmanager
def naming_files(dataset):
    """Turn an error of TensorFlow's into a `DamagedFileError`, if a data file is what is wrong.

    Then all of them are read, for the first that is damaged; where none is, the error stays.
    """
    try:
        yield
    # TensorFlow's own message may have the damaged bytes in it, and then cannot be decoded.
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        path = damaged_file(dataset)
        if path is None:
            raise
        raise DamagedFileError(f"{path} is damaged: {REMEDY}") from error


def damaged_file(dataset):
    """The path of the first TFRecord of a data set that cannot be read whole, or None."""
    info = dataset.builder.info
    paths = [pathlib.Path(path) for split in info.splits.values() for path in split.filepaths]
    # The checksums first: they take a hundredth of what decoding takes.
    for read in (None, info.features.deserialize_example):
        for path in paths:
            records = tf.data.TFRecordDataset(str(path))
            try:
                for _ in records.map(read, tf.data.AUTOTUNE) if read else records:
                    pass
            except (tf.errors.OpError, UnicodeDecodeError):
                return path
    return None


@contextlib.contextmanager
def naming_description(name, data_dir):
    """Turn what TFDS raises for descriptions that are no JSON into a ValueError that names them."""
    try:
        yield
    # TFDS has a RuntimeError of its own round what is no UTF-8.
    except (protobuf.Error, UnicodeDecodeError, RuntimeError) as error:
        where = f"the description of {name!r} in {data_dir or 'the home directory'} is damaged"
        raise ValueError(f"{where}: delete the data set's folder there") from error


def mean_and_std(builder, mean, std):
    """The mean and the deviation of a builder's metadata.json, or those given if it has none.

    Raises ValueError for what is no such file.
    """
    path = pathlib.Path(builder.data_dir) / "metadata.json"
    try:
        known = {"mean": mean, "std": std, **(builder.info.metadata or {})}
        mean, std = (tuple(float(value) for value in known[name]) for name in ("mean", "std"))
        if len(mean) != 3 or len(std) != 3 or not np.isfinite(mean + std).all() or min(std) <= 0:
            raise ValueError(f"mean {mean}, std {std}")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {REMEDY}") from error
    return mean, std


def check_files(builder):
    """Raise ValueError where a data file is missing or not as long as when it was written."""
    directory = pathlib.Path(builder.data_dir)
    if not builder.info.splits:
        raise ValueError(f"{directory} has no dataset_info.json: {REMEDY}")
    if builder.info.file_format != tfds.core.FileFormat.TFRECORD:
        raise ValueError(f"{directory} is in {builder.info.file_format.value}, not in tfrecord")
    if "train" not in builder.info.splits or len(builder.info.splits) < 2:
        found = ", ".join(builder.info.splits)
        raise ValueError(
            f"{directory}: expected splits to train on and to validate on; found {found}"
        )
    for split in builder.info.splits.values():
        paths = [pathlib.Path(path) for path in split.filepaths]
        for path in paths:
            if not path.exists():
                raise ValueError(f"{path} is missing: {REMEDY}")
        # A TFRecord has 16 bytes of lengths and checksums round each example.
        expected = int(split.num_bytes) + 16 * split.num_examples
        found = sum(path.stat().st_size for path in paths)
        if found != expected:
            raise ValueError(
                f"{directory}: split {split.name!r} has {found} bytes, not {expected}: {REMEDY}"
            )
        if found <= _WALKED_BYTES:
            for path in paths:
                _check_lengths(path)


def _check_lengths(path):
    """Raise ValueError where a record would end behind its file.

    TensorFlow 2.21 asks for as much memory as a record says it has, where the checksum of its
    length is right, and the process ends.
    """
    size, at = path.stat().st_size, 0
    with path.open("rb", buffering=0) as file:
        while at < size:
            file.seek(at)
            at += int.from_bytes(file.read(8), "little") + 16
    if at != size:
        raise ValueError(f"{path} is damaged: {REMEDY}")
