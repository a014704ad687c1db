"""How the programs start and end: a user's mistake is one line and exit code 2."""

import contextlib
import pathlib
import sys
import tempfile

from absl import app, flags, logging


class UserError(Exception):
    """A mistake of the user's: names the flag or file, what was found and what is expected."""


def run(main):
    """Parse the flags and call main(); called at the end of a program.

    A `UserError`, a wrong flag or a left-over argument ends the program with one line on the
    terminal and exit code 2.
    """
    flags.FLAGS.set_default("verbosity", logging.WARNING)  # TFDS tells of every file it opens
    try:
        app.run(_without_arguments(main), flags_parser=_parse)
    except UserError as error:
        _refuse(error)


@contextlib.contextmanager
def blaming(flag):
    """Turn what the library raises for wrong values and files into a `UserError` about a flag."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(f"--{flag}: {error}") from error


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
def replacing(path):
    """A temporary path beside `path` that takes its name once all is written."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".unfinished.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _parse(argv):
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _refuse(error)


def _without_arguments(main):
    def run_main(argv):
        if len(argv) > 1:
            raise UserError(f"takes flags only; found {argv[1]!r}")
        main()

    return run_main


def _refuse(error):
    name = pathlib.Path(sys.argv[0]).stem
    print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)
