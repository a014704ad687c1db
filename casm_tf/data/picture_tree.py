"""Which pictures a tree of folders has, and of which class and split; `image_folder.config`'s.

Pictures are {path below the tree's root: `files.stamp`}, sorted.
"""

import hashlib
import os

from casm_tf.data import annotations, pictures
from casm_tf.host import files

_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


def labelled(root):
    """The classes' names, and {split: its pictures}.

    Raises ValueError for a tree of another form.
    """
    folders = _folders(root)
    if "train" not in folders:
        classes = _classes(root, root, folders)
        splits = {"train": {}, "validation": {}, "test": {}}
        for name, stamp in sorted(pair for names in classes.values() for pair in names.items()):
            share = int(hashlib.md5(name.rpartition("/")[2].encode()).hexdigest()[:8], 16) % 10
            splits[{0: "validation", 1: "test"}.get(share, "train")][name] = stamp
        labels = list(classes)
    else:
        splits, labels = {}, None
        for folder, split in _SPLITS.items():
            if folder not in folders:
                continue
            inside = _folders(root / folder)
            if folder == "test" and not inside:
                continue  # ILSVRC's own: pictures without classes
            if split in splits:
                raise ValueError(f"{root} has val/ and validation/: expected one")
            classes = _classes(root, root / folder, inside)
            labels = labels or list(classes)  # those of train/, the first
            for label in classes.keys() - set(labels):
                raise ValueError(f"{root / folder / label}: there is no {label} in train/")
            splits[split] = {k: v for names in classes.values() for k, v in names.items()}
        if len(splits) == 1:
            raise ValueError(f"{root} has train/ alone: expected val/, validation/ or test/ too")
    if len(labels) < 2:
        raise ValueError(f"{root}: expected at least two class folders; found {labels}")
    for split, names in splits.items():
        if not names:
            raise ValueError(f"{root} has too few pictures: none falls into {split!r}")
    return tuple(labels), splits


def unlabelled(root):
    """{split: its pictures}, whatever folders they lie in.

    Raises ValueError where a split has none.
    """
    inside = {folder: _pictures_below(root, root / folder) for folder in _folders(root)}
    given = {_SPLITS[folder]: names for folder, names in inside.items() if folder in _SPLITS}
    if "train" in given and len(given) > 1:
        splits = given
    else:
        found = _pictures_below(root, root)
        # In an order that has nothing to do with what they show, and is the same everywhere.
        names = sorted(found, key=lambda name: hashlib.md5(name.encode()).hexdigest())
        tenth = max(1, len(names) // 10)
        splits = {
            "train": names[2 * tenth :],
            "validation": names[:tenth],
            "test": names[tenth : 2 * tenth],
        }
        splits = {split: {k: found[k] for k in sorted(some)} for split, some in splits.items()}
    for split, names in splits.items():
        if not names:
            raise ValueError(f"{root} has too few pictures: none is left for {split!r}")
    return splits


def stem(name):
    """A picture's path without its suffix, as annotations are joined to it."""
    return annotations.normal(name.rpartition(".")[0])


def _pictures_below(root, directory):
    """The pictures at any depth of a directory."""
    return _pictures(root, (entry for _, entry in files.below(directory)))


def _classes(root, directory, folders):
    """{class: its pictures}, sorted."""
    if not folders:
        raise ValueError(f"{directory}: expected a folder for each class; found none")
    classes = {}
    for folder in folders:
        with os.scandir(directory / folder) as entries:
            found = _pictures(root, entries)
        if not found:
            raise ValueError(f"{directory / folder}: a class folder without pictures")
        classes[annotations.normal(folder)] = found
    return classes


def _pictures(root, entries):
    """Those of some os.DirEntry that are pictures."""
    start, suffixes = len(f"{root}/"), tuple(pictures.SUFFIXES)
    return dict(
        sorted(
            (entry.path[start:], files.stamp(entry))
            for entry in entries
            if entry.name.lower().endswith(suffixes)
            and not entry.name.startswith(".")
            and not entry.is_dir()
        )
    )


def _folders(directory):
    paths = (path for path in directory.iterdir() if path.is_dir())
    return sorted(path.name for path in paths if not path.name.startswith("."))
