"""How the programs start and end: a user's mistake is one line and exit code 2."""

import contextlib
import errno
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys

from absl import app, flags, logging

from casm_tf.cli import flagfiles
from casm_tf.host import files

_SERVER = re.compile("(https?|grpc)://")
_left = []  # the program's name and what is no flag, once `parse` was called
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# What absl says of a flag's value that is of another type, and what it means.
_EXPECTED = {
    r"invalid literal for int\(\).*": "expected a whole number",
    r"could not convert string to float.*": "expected a number",
    r"\('Non-boolean argument.*": "expected true or false",
    r"flag (--\w+)=None: Flag --\w+ must have a value other than None\.": r"\1: expected a value",
}


class UserError(Exception):
    """A mistake of the user's: names the flag or file, what was found and what is expected."""


def parse(groups=None):
    """Parse the flags before `run` does: behind a program's flags, before it imports TensorFlow.

    So --help and a wrong flag are answered at once, and not after seconds. --help shows the flags
    as they stand in the program's module; with `groups` {title: its first flag}, first those of the
    module that defines these, under the titles.
    """
    app.define_help_flags()
    with _ending_in_a_line():
        _left[:] = _parsed(sys.argv, groups)


def run(main, takes_arguments=False, servers=()):
    """Call main(), or main(arguments), at the end of a program; parse the flags if `parse` did not.

    Of the flags those named in `servers` may have a server's address, no other a value such as
    gs://bucket/run.

    A `UserError`, a wrong flag, a left-over argument or a full disk ends the program with one line
    on the terminal and exit code 2. Otherwise the exit code is what main returns; None is 0.
    """
    with _ending_in_a_line():
        app.run(
            lambda argv: main(argv[1:]) if takes_arguments else main(),
            flags_parser=lambda argv: _left or _parsed(argv, None, takes_arguments, servers),
        )


@contextlib.contextmanager
def _ending_in_a_line():
    """End the program as `run` tells."""
    try:
        yield
    except UserError as error:
        _refuse(error)
    except KeyboardInterrupt:
        print(f"\n{pathlib.Path(sys.argv[0]).stem}: interrupted", file=sys.stderr)
        sys.exit(130)  # as shells have it
    except BrokenPipeError:  # who reads what is printed has had enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is flushed at the end
        sys.exit(1)
    except OSError as error:
        if error.errno not in _OF_DISKS:
            raise
        _refuse(error)


@contextlib.contextmanager
def blaming(flag, errors=(ValueError, OSError)):
    """Turn what the library raises for wrong values and files into a `UserError` about a flag."""
    try:
        yield
    except errors as error:
        raise UserError(f"--{flag}: {error}") from error


@contextlib.contextmanager
def blaming_data():
    """Turn what `open_dataset` raises into a `UserError` about the flag that is to blame."""
    from PIL import Image

    from casm_tf.data import datasets  # some programs do without TensorFlow

    tree = ("image_dir", "boxes", "masks")
    tree = [name for name in tree if flags.FLAGS.get_flag_value(name, None) is not None]
    with (
        blaming("data_dir", OSError),
        blaming(" or --".join(tree) if "image_dir" in tree else "dataset", ValueError),
        blaming("dataset", datasets.NoSuchDataError),
        blaming("max_pixels", Image.DecompressionBombError),
    ):
        yield


@contextlib.contextmanager
def blaming_memory(name, *others):
    """Turn what TensorFlow raises where there is too little memory into a `UserError`."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        shape = re.search(r"shape\[[\d,]*\]", error.message)
        raise UserError(
            f"--{name}: too little memory{f' for a tensor of {shape[0]}' if shape else ''}; "
            f"lower it, or --{' or --'.join(others)}"
        ) from error


def call(command, env=None):
    """Run another program to its end, passing SIGTERM and SIGINT on to it; its exit code.

    A scheduler signals this process alone, and waits for the other's checkpoint. A terminal signals
    both.
    """
    process = subprocess.Popen(command, env=env)
    before = {
        number: signal.signal(number, lambda number, _: process.send_signal(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def command(module, *arguments):
    """What starts one of our programs, to be pasted into a shell where the user is.

    Python is this one: its path, from here if it is below, or `python` if that is what is found.
    """
    own, here = pathlib.Path(sys.executable), pathlib.Path.cwd()
    found = shutil.which("python")
    if own.is_relative_to(here):
        python = own.relative_to(here)
    else:
        # Environments are told apart by their folders: their Pythons are links to one file.
        python = "python" if found and pathlib.Path(found).parent == own.parent else own
    return shlex.join([str(python), "-m", module, *map(str, arguments)])


def _parsed(argv, groups, takes_arguments=False, servers=()):
    if {"--help", "-help", "-h", "--helpshort", "-helpshort"}.intersection(argv):
        text = sys.modules["__main__"].__doc__.rstrip()
        text = re.sub(r"\bpython -m (\w+(?:\.\w+)*)", lambda found: command(found[1]), text)
        print(f"{text}\n{''.join(_flag_lines(groups or {}))}", end="")
        sys.exit()
    try:
        left = flags.FLAGS([argv[0], *flagfiles.expanded(argv[1:])])
    except (flags.Error, ValueError) as error:
        text = str(error)
        for said, meant in _EXPECTED.items():
            text = re.sub(said, meant, text)
        _refuse(text)
    _check_values(left[1:], servers)
    if left[1:] and not takes_arguments:
        raise UserError(f"takes flags only; found {left[1]!r}")
    if flags.FLAGS["verbosity"].using_default_value:
        # absl would take INFO, and then TFDS tells of every file it opens.
        flags.FLAGS.verbosity = logging.WARNING
    return left


def _check_values(others, servers):
    """Refuse, of all flags and other arguments, what is no path of this machine.

    And --name= of a variable that was never set: a path of no letters is this folder.
    """
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if flags.FLAGS[name].present and value == "":
            raise UserError(f"flag --{name}=: expected a value")
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and not (name in servers and _SERVER.match(one)):
                with blaming(name):
                    files.check_local(one)
    try:
        for one in others:
            files.check_local(one)
    except ValueError as error:
        raise UserError(str(error)) from error


def _flag_lines(groups):
    """The lines of --help."""
    titles = {first: title for title, first in groups.items()}
    module = flags.FLAGS.find_module_defining_flag(next(iter(titles))) if titles else None
    own = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    if not titles:
        yield "\n"
    for flag in (*flags.FLAGS.flags_by_module_dict().get(module, ()), *own):
        if flag.name in titles:
            yield f"\n{titles[flag.name]}:\n"
        help_ = flag.help
        if choices := getattr(flag.parser, "enum_values", None):
            help_ = f"{help_.partition('>: ')[2]} One of: {', '.join(choices)}."
        default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
        if default not in (None, "") and default is not False:
            help_ += f" Default: {default}."
        name = f"[no]{flag.name}" if flag.boolean else flag.name
        yield f"{flags.text_wrap(f'--{name}: {help_}', 100, '      ', '  ')}\n"


def _refuse(error):
    name = pathlib.Path(sys.argv[0]).stem
    print(f"{name}: {files.printable(' '.join(str(error).split()))}", file=sys.stderr)
    sys.exit(2)
