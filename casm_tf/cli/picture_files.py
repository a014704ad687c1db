"""The pictures that casm_tf.extract is called with, and the files it makes of each."""

import collections
import hashlib
import pathlib

from PIL import Image

from casm_tf.data import pictures
from casm_tf.host import files

MADE_BY = "made_by"  # in a mask's PNG
ENDINGS = {"mask": ".mask.png", "overlay": ".overlay.jpg", "cutout": ".cutout.png"}


def find(arguments):
    """The pictures that files, folders and globs name, and the paths of what is no picture there.

    Pictures are pairs of a path and its outputs' name: the path below the folder that was searched,
    without its suffix. In folders and by globs only what is called a picture is taken; hidden files
    and our own outputs do not count. A picture that is named twice is taken once. Raises ValueError
    where an argument names no picture or two pictures would have the same outputs.
    """
    if not arguments:
        raise ValueError("takes picture files, folders or globs; found none")
    found, seen, others = {}, set(), []
    for argument in arguments:
        named, left = _named(argument)
        others += left
        for path, relative in named:
            real = path.resolve()
            if real not in seen:
                found[path] = relative
                seen.add(real)
    # cat.jpg and cat.png of one folder keep their suffixes, so that they stay two.
    stems = collections.Counter(relative.with_suffix("") for relative in found.values())
    targets = {}
    for path, relative in found.items():
        stem = relative.with_suffix("")
        target = stem if stems[stem] == 1 else relative
        if target in targets:
            raise ValueError(
                f"{targets[target]} and {path} would both become {target}{ENDINGS['mask']}; "
                "name the folder that both are in, or call the program for each"
            )
        targets[target] = path
    return [(path, target) for target, path in targets.items()], others


def outputs(target):
    """The paths of a picture's three files, by name."""
    return {name: target.with_name(target.name + ending) for name, ending in ENDINGS.items()}


def is_made(path, target, made_by):
    """Whether a picture's three files are there, newer than it and `made_by` the same."""
    paths = outputs(target)
    try:
        oldest = min(output.stat().st_mtime_ns for output in paths.values())
        with Image.open(paths["mask"]) as mask:
            return oldest > path.stat().st_mtime_ns and mask.info.get(MADE_BY) == made_by
    # There is none, it is no picture, or it is larger than is read now.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def maker(model, settings):
    """What a mask was made by, a short digest: the model, as it is now, and other settings.

    `model` is a directory or a server's address.
    """
    found = [pathlib.Path(model) / name for name in ("model.keras", "saved_model.pb")]
    version = [file.stat().st_mtime_ns for file in found if file.exists()]
    place = str(pathlib.Path(model).resolve()) if version else str(model)
    return hashlib.sha256(repr((place, version, settings)).encode()).hexdigest()[:16]


def _named(argument):
    """The pictures of one argument, and the paths of what is none.

    Pictures are pairs of a path and its part below where the search began.
    """
    path = pathlib.Path(argument)
    if path.is_file():
        return [(path, pathlib.Path(path.name))], []
    if path.is_dir():
        root, found = path, [pathlib.Path(entry.path) for _, entry in files.below(path)]
    else:
        # A folder that is there has its name, whatever wildcards are in it.
        root = next(parent for parent in path.parents if parent.is_dir())
        pattern = path.relative_to(root)
        if not set(str(pattern)) & set("*?["):
            raise ValueError(f"there is no {argument}")
        if ".." in pattern.parts:
            raise ValueError(f"{argument}: expected no .. behind a wildcard")
        found = [x for x in root.glob(str(pattern)) if x.is_file()]
    names = [path.relative_to(root) for path in sorted(found)]
    names = [name for name in names if not any(map(files.is_hidden, name.parts))]
    names = [name for name in names if not name.name.endswith(tuple(ENDINGS.values()))]
    pairs = [(root / name, name) for name in names if pictures.is_named_so(name)]
    others = [root / name for name in names if not pictures.is_named_so(name)]
    if not pairs:
        kinds = f"; found {pictures.kinds(others)}" if others else ""
        raise ValueError(f"there is no picture in {argument}{kinds}")
    return pairs, others
