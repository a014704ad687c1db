"""Files that are whole or not there, and directories that can be written in."""

import contextlib
import pathlib
import tempfile


@contextlib.contextmanager
def replacing(path):
    """A temporary path beside `path` that takes its name once all is written."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".unfinished.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
