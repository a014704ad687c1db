"""Which pictures a tree of folders has, and of which class and split; `image_folder.config`'s.

Pictures are {path below the tree's root: `files.stamp`}, sorted.
"""

import hashlib
import os
import pathlib

from casm_tf.data import annotations, pictures
from casm_tf.host import files

_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_KINDS = "files such as .jpg and .png"


def labelled(root):
    """The classes' names, and {split: its pictures}.

    Raises ValueError for a tree of another form.
    """
    folders = _folders(root)
    if _is_flat(root, folders):
        classes = _classes(root, root, folders)
        labels = list(classes)
        splits = {"train": {}, "validation": {}, "test": {}}
        for found in classes.values():
            for split, some in _in_three(found).items():
                splits[split] |= some
    else:
        labels, splits = _given_splits(root, folders)
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
    found = _pictures(root, files.below(root))
    given = {
        folder: {name: stamp for name, stamp in found.items() if name.startswith(f"{folder}/")}
        for folder in _folders(root)
        if folder in _SPLITS
    }
    if "train" in given and len(given) > 1:
        _check_one_validation(root, given)
        other = next((name for name in found if name.partition("/")[0] not in given), None)
        if other:
            raise ValueError(
                f"{root} has {'/, '.join(given)}/ and a picture beside them, {other}: expected all "
                "in splits, or no folders of these names"
            )
        splits = {_SPLITS[folder]: names for folder, names in given.items()}
    else:
        # In an order that has nothing to do with what they show, and is the same everywhere.
        names = sorted(found, key=_hash)
        tenth = max(1, len(names) // 10)
        splits = _cut(found, names, (tenth, 2 * tenth))
    if not any(splits.values()):
        raise ValueError(f"{root} has no pictures: expected {_KINDS}")
    for split, names in splits.items():
        if not names:
            raise ValueError(f"{root} has too few pictures: none is left for {split!r}")
    return splits


def _is_flat(root, folders):
    """Whether all folders are classes, and none is a split.

    A class may be called train, as in VOC and COCO: where that is the only folder with a split's
    name, there are others, and pictures lie directly in it.
    """
    splits = [folder for folder in folders if folder in _SPLITS]
    is_class = len(splits) == 1 < len(folders) and _directly(root, root / splits[0])
    return not splits or bool(is_class)


def _given_splits(root, folders):
    """The classes' names and {split: its pictures} of a tree with folders for splits."""
    if "train" not in folders:
        found = "/, ".join(folder for folder in folders if folder in _SPLITS)
        raise ValueError(f"{root} has {found}/ without train/: expected both, or classes alone")
    _check_one_validation(root, folders)
    splits, labels = {}, None
    for folder, split in _SPLITS.items():
        if folder not in folders:
            continue
        inside = _folders(root / folder)
        if folder == "test" and not inside:
            continue  # ILSVRC's own: pictures without classes
        classes = _classes(root, root / folder, inside)
        labels = labels or list(classes)  # those of train/, the first
        for label in classes.keys() - set(labels):
            raise ValueError(f"{root / folder / label}: there is no {label} in train/")
        splits[split] = {k: v for names in classes.values() for k, v in names.items()}
    if len(splits) == 1:
        raise ValueError(f"{root} has train/ alone: expected val/, validation/ or test/ too")
    return labels, splits


def _check_one_validation(root, folders):
    if {"val", "validation"} <= set(folders):
        raise ValueError(f"{root} has val/ and validation/: expected one")


def _in_three(found):
    """{split: pictures} of a class, by a hash of each one's path.

    A tenth of the hashes is for validation and the next for testing. Where the class has three
    pictures or more each split has one at least: the first of them all, and the one behind.
    """
    tenths = {name: int(_hash(name)[:8], 16) / 2**32 * 10 for name in found}
    names = sorted(found, key=tenths.get)
    ends = [sum(tenth < end for tenth in tenths.values()) for end in (1, 2)]
    if len(names) < 3:
        ends = [0, 0]
    else:
        ends[0] = min(max(ends[0], 1), len(names) - 2)
        ends[1] = min(max(ends[1], ends[0] + 1), len(names) - 1)
    return _cut(found, names, ends)


def _cut(found, names, ends):
    """{split: pictures}: of all their names the first are for validation, the next for testing."""
    parts = {"train": names[ends[1] :], "validation": names[: ends[0]], "test": names[slice(*ends)]}
    return {split: {name: found[name] for name in sorted(some)} for split, some in parts.items()}


def _hash(name):
    return hashlib.md5(annotations.normal(name).encode()).hexdigest()


def passed_over(root, splits, has_boxes=False):
    """What of a tree is in none of its splits: files that are no pictures, and pictures.

    Hidden files do not count and, where it has boxes, neither do the files of boxes. Both are lists
    of paths below the root.
    """
    taken = {name for names in splits.values() for name in names}
    left = sorted(pathlib.PurePath(name) for name, _ in files.below(root) if name not in taken)
    if has_boxes:
        left = [path for path in left if path.suffix.lower() not in (".xml", ".csv")]
    others, elsewhere = (
        [path for path in left if pictures.is_named_so(path) == is_so] for is_so in (False, True)
    )
    return others, elsewhere


def _classes(root, directory, folders):
    """{class: its pictures}, sorted."""
    if not folders:
        what = "pictures" if _directly(root, directory) else "none"
        raise ValueError(f"{directory}: expected a folder for each class; found {what}")
    classes = {}
    for folder in sorted(folders, key=annotations.normal):
        found = _directly(root, directory / folder)
        if not found:
            paths = [x for x in (directory / folder).iterdir() if not files.is_hidden(x.name)]
            there = f"; found {pictures.kinds(paths)}" if paths else ""
            raise ValueError(
                f"{directory / folder}: a class folder without pictures; expected {_KINDS}{there}"
            )
        label = annotations.normal(folder)
        if label in classes:
            raise ValueError(f"{directory / label}: two folders of this name, in NFC and in NFD")
        classes[label] = found
    return classes


def _directly(root, directory):
    """The pictures in a directory itself."""
    with os.scandir(directory) as entries:
        return _pictures(root, ((entry.name, entry) for entry in entries))


def _pictures(root, entries):
    """Those of some (name, os.DirEntry) that are pictures."""
    start = len(f"{root}/")
    return dict(
        sorted(
            (entry.path[start:], files.stamp(entry))
            for _, entry in entries
            if pictures.is_named_so(pathlib.PurePath(entry.name))
            and not files.is_hidden(entry.name)
            and files.is_file(entry)
        )
    )


def _folders(directory):
    paths = (path for path in directory.iterdir() if path.is_dir())
    return sorted(path.name for path in paths if not files.is_hidden(path.name))
