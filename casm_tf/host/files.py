"""Files that are whole or not there, directories that can be written in, and locks."""

import contextlib
import errno
import fcntl
import functools
import json
import os
import pathlib
import platform
import re
import shutil
import stat
import tempfile

_UNFINISHED = ".unfinished."
_PATTERNS = set("*?[\\")


@contextlib.contextmanager
def replacing(path):
    """A temporary path of the same name that takes the place of `path` once all is written."""
    path = pathlib.Path(path)
    # In a folder, as a name may be as long as names can be.
    with naming(path), unfinished(path.parent) as folder:
        yield folder / path.name
        (folder / path.name).replace(path)


@contextlib.contextmanager
def unfinished(folder):
    """A folder of this process alone in `folder`, for what is moved out of it once it is whole."""
    _clear(folder)
    start = f"{_UNFINISHED}{platform.node()}.{os.getpid()}."
    with tempfile.TemporaryDirectory(prefix=start, dir=folder) as temporary:
        yield pathlib.Path(temporary)


@functools.cache  # once a process: there may be a million files
def _clear(folder):
    """Remove what killed processes of this machine left unfinished in a folder."""
    ours = re.compile(rf"{re.escape(f'{_UNFINISHED}{platform.node()}.')}(\d+)\.\w+")
    for path in folder.iterdir():
        if match := ours.fullmatch(path.name):
            try:
                os.kill(int(match[1]), 0)
            except (ProcessLookupError, OverflowError):
                shutil.rmtree(path, ignore_errors=True)
            except PermissionError:  # another user's, and alive
                pass


def check_local(path):
    """Raise ValueError for an address such as gs://bucket/run, also as a part of a longer value.

    pathlib would take it for a path on this machine, in a folder gs:.
    """
    if re.search(r"(?:^|[=,:])[a-z][a-z0-9+.-]*://", str(path), re.IGNORECASE):
        raise ValueError(
            f"{path} is no path of this machine; mount or copy what is there, and give its path"
        )


@contextlib.contextmanager
def literal(path):
    """Another path of an existing folder, without what TensorFlow takes for a pattern.

    It looks for a checkpoint's and a SavedModel's files by their path as a pattern, and does not
    find them in a folder `run [1]`.
    """
    if not _PATTERNS.intersection(str(path)):
        yield pathlib.Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = pathlib.Path(folder, "link")
        link.symlink_to(pathlib.Path(path).absolute())
        yield link


def read_text(path):
    """The text of a file that a user may have written, with a byte-order mark or without.

    Raises ValueError that names the file where it is not in UTF-8, OSError where it cannot be read.
    """
    try:
        return pathlib.Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8; {error}") from error


def read_json(path, part=None):
    """What is in a JSON file, with an object of the name `part` where one is given.

    Raises as `read_text`, ValueError for what is no such JSON too.
    """
    text = read_text(path)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON; {error}") from error
    if part and not (isinstance(found, dict) and isinstance(found.get(part), dict)):
        raise ValueError(f'{path}: expected JSON with "{part}": {{...}}')
    return found


def sync(path):
    """Have a file on the disk, or the names in a folder: a power cut takes what is in memory.

    Else a new name may be on the disk before what it names.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_hidden(name):
    """Whether a file's or folder's name says that it is not the user's."""
    return name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini")


@contextlib.contextmanager
def naming(path):
    """Have an OSError name the path, where it names none (full disks) or what `unfinished` gave."""
    try:
        yield
    except OSError as error:
        is_named = error.filename is not None and _UNFINISHED not in str(error.filename)
        if error.errno is None or is_named:
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


def check_outside(path, folder):
    """Raise ValueError where what is written at `path` would lie in a folder that is read."""
    if pathlib.Path(path).resolve().is_relative_to(pathlib.Path(folder).resolve()):
        raise ValueError(
            f"{path} lies in {folder}, whose pictures are all read; take another place"
        )


def absolute(path):
    """A path as text that holds from any folder; one that is not there stays as it was given."""
    return str(pathlib.Path(path).absolute()) if path and pathlib.Path(path).exists() else path


def below(folder):
    """(path below the folder, os.DirEntry) of each file at any depth.

    Linked folders are searched too, each folder once, by its own path where it has one. Hidden
    files and folders are passed over, and what file managers leave. A folder that cannot be read is
    given as if it were a file, so that it can be told of. Raises OSError where that is `folder`.
    """
    waiting, seen = [("", None)], set()
    while waiting:
        inside, own = waiting.pop()
        directory = os.path.join(folder, inside)  # noqa: PTH118  (there may be a million)
        try:
            found = os.stat(directory)  # noqa: PTH116
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
            with os.scandir(directory) as entries:
                there = [entry for entry in entries if not is_hidden(entry.name)]
        except OSError:
            if not inside:
                raise
            yield inside, own
            continue
        for entry in there:
            path = f"{inside}/{entry.name}" if inside else entry.name
            if is_folder(entry):
                # Links come last, as what they lead to may have a path of its own.
                waiting.insert(0 if entry.is_symlink() else len(waiting), (path, entry))
            elif is_file(entry):
                yield path, entry


def is_folder(entry):
    """Whether an os.DirEntry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_file(entry):
    """Whether an os.DirEntry is a file or a broken link, of which it is to be told.

    It is not where it is a folder, or a pipe or the like, which would be waited for.
    """
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True


def stamp(path):
    """The size and the time of a pathlib.Path or os.DirEntry; None where it is no file any more."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def locked(path, waiting=lambda holder: None):
    """Hold the lock file `path`, which is made and stays, alone; it ends with the process too.

    Its text says which process has it. Where another one has it, `waiting` is called with that text
    before the wait; what it raises is raised.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            waiting(file.read().strip())
            fcntl.flock(file, fcntl.LOCK_EX)
        with naming(path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n")
            file.flush()
        yield
