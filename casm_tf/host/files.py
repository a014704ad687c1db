"""Files that are whole or not there, directories that can be written in, and locks."""

import contextlib
import errno
import fcntl
import os
import pathlib
import platform
import shutil
import tempfile


@contextlib.contextmanager
def replacing(path):
    """A temporary path beside `path` that takes its name once all is written."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".unfinished.{path.name}")
    try:
        with naming(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path):
    """Have a file on the disk, or the names in a folder: a power cut takes what is in memory.

    Else a new name may be on the disk before what it names.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def below(folder):
    """The paths of all files at any depth of a folder, sorted.

    Linked folders are searched too, each folder once, by its own path where it has one. Hidden
    files and folders are passed over, and what file managers leave. A folder that cannot be read
    is among the paths itself, so that it can be told of.
    """

    def keep(error):
        found.append(pathlib.Path(error.filename))

    found, seen, starts = [], set(), [folder]
    for start in starts:  # which grows by the links that are met
        for directory, folders, names in os.walk(start, onerror=keep):
            real = os.path.realpath(directory)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            inside = (pathlib.Path(directory, name) for name in folders)
            starts += [path for path in inside if path.is_symlink()]
            paths = (pathlib.Path(directory, name) for name in names if not is_hidden(name))
            # A pipe would be waited for; of a broken link it is to be said that it is broken.
            found += (path for path in paths if path.is_file() or path.is_symlink())
    return sorted(found)


def is_hidden(name):
    """Whether a file's or folder's name says that it is not the user's."""
    return name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini")


@contextlib.contextmanager
def naming(path):
    """Name the path in an OSError that names none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_room(directory, size):
    """Raise OSError unless so many bytes are left on the directory's disk.

    For what does not say that it could not be written: HDF5 ends the process with a segmentation
    fault, TensorFlow's events are cut off without a word.
    """
    if shutil.disk_usage(directory).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))


def printable(path):
    """A path as text on one line of a terminal or list: what cannot be printed is escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(path)
    )


def check_writable(path):
    """Raise OSError unless the directory `path` can be made and written in; leaves no trace."""
    ancestor = pathlib.Path(path).absolute()
    while not ancestor.exists():
        ancestor = ancestor.parent
    if not ancestor.is_dir():
        raise NotADirectoryError(f"{ancestor} is not a directory")
    with tempfile.TemporaryDirectory(dir=ancestor):
        pass


@contextlib.contextmanager
def locked(path, waits=True):
    """Hold the lock file `path`, which is made and stays, alone; it ends with the process too.

    Its text says which process has it. Where `waits` is False and another one has it, raises
    BlockingIOError with that text.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError as error:
            file.seek(0)
            raise BlockingIOError(f"in use by {file.read().strip()}") from error
        with naming(path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n")
            file.flush()
        yield
