"""TFDS's data sets by their names, and what is said of one that cannot be had."""

import contextlib
import difflib

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

# Importing a builder registers it.
import casm_tf.data.digit_scenes
import casm_tf.data.letter_scenes  # noqa: F401
from casm_tf.data import damage

IMAGE_FOLDER = "image_folder"
# TFDS would try ten times: three minutes where there is no network.
downloader.MAX_RETRIES = 3


class NoSuchDataError(ValueError):
    """A data set that is not known, or cannot be downloaded: the name is what is wrong."""


def builder(name, data_dir):
    """The builder of a name. Raises NoSuchDataError for one that TFDS does not know."""
    with damage.naming_description(name, data_dir):
        try:
            return tfds.builder(name, data_dir=data_dir)
        except (ValueError, AssertionError, TypeError, LookupError) as error:
            # TFDS's own message lists every data set there is.
            there = [IMAGE_FOLDER, *tfds.list_builders(with_community_datasets=False)]
            like = difflib.get_close_matches(name.partition("/")[0], there, 1)
            hint = f"; did you mean {like[0]}?" if like and not name.startswith(like[0]) else ""
            raise NoSuchDataError(f"TFDS knows no data set {name!r}{hint}") from error


@contextlib.contextmanager
def downloading(name):
    """Turn what TFDS raises for a file that it does not get into a NoSuchDataError."""
    try:
        yield
    except downloader.requests.RequestException as error:
        where = f" from {error.request.url}" if error.request is not None else ""
        raise NoSuchDataError(f"{name!r} cannot be downloaded{where} (no network?)") from error
    except tfds.download.DownloadError as error:
        raise NoSuchDataError(f"{name!r} cannot be downloaded: {error}") from error
