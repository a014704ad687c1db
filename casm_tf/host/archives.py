"""Model files that others made: what they unpack to is looked at before they are read.

Nothing in them is run: Keras loads its files in its safe mode. A SavedModel is another thing, a
program of TensorFlow's, and to be loaded from trusted places only.
"""

import pathlib
import zipfile

MAX_BYTES = 2**32  # that a file may unpack to; the largest classifier here takes 1.4


def check_zip(path):
    """Raise ValueError for a zip file that `load_keras` refuses before it is read."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path} is not a whole zip file") from error
    check_size(path, sum(entry.file_size for entry in entries))
    for entry in entries:
        name = pathlib.PureWindowsPath(entry.filename)  # which knows both kinds of slashes
        if name.anchor or ".." in name.parts:
            raise ValueError(f"{path} has an entry that lies outside of it: {entry.filename!r}")


def check_size(path, size):
    """Raise ValueError where a file would unpack to more than MAX_BYTES."""
    if size > MAX_BYTES:
        raise ValueError(f"{path} unpacks to {size} bytes; expected at most {MAX_BYTES}")
