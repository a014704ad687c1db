"""A program's arguments as they are meant: flagfiles read, and ~ the home folder."""

import pathlib
import re

from casm_tf.host import files

_FLAGFILE = re.compile(r"((?:--?\w+=)?)--?flagfile=(.*)", re.DOTALL)


def expanded(arguments, folder="", within=()):
    """Arguments with what the flagfiles among them say in their places.

    A flagfile that another one names lies beside that one; other paths are of the working folder.

    Args:
        arguments: of a program, or the lines of a flagfile.
        folder: that flagfile's.
        within: the flagfiles that these lines are of.

    Raises ValueError, in words for a `program.UserError`.
    """
    found, rest = [], iter(arguments)
    for argument in rest:
        if argument == "--":  # what follows is another program's
            return [*found, argument, *rest]
        if argument in ("--flagfile", "-flagfile"):
            argument = f"--flagfile={next(rest, '')}"
        argument = _with_home(argument)
        match = _FLAGFILE.fullmatch(argument)
        if not match:
            found.append(argument)
            continue
        path = pathlib.Path(folder, match[2])
        if match[1]:  # for a component, such as --trainer=--flagfile=casm.flags
            found.append(f"{match[1]}--flagfile={path}")
        elif path.resolve() in within:
            raise ValueError(f"--flagfile: {path} names itself")
        else:
            found += expanded(_lines(match[2], path), path.parent, (*within, path.resolve()))
    return found


def _with_home(argument):
    """Shells leave a ~ behind an = as it is."""
    start, tilde, rest = argument.partition("=~")
    if not tilde or rest[:1] not in ("", "/"):
        return argument
    try:
        return f"{start}={pathlib.Path.home()}{rest}"
    except RuntimeError as error:
        raise ValueError(f"{argument}: there is no home folder; give a path without ~") from error


def _lines(name, path):
    try:
        files.check_local(name)
        lines = (line.strip() for line in files.read_text(path).splitlines())
    except (ValueError, OSError) as error:
        raise ValueError(f"--flagfile: {error}") from error
    return [line for line in lines if line and not line.startswith(("#", "//"))]
