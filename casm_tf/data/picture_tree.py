"""Which pictures a tree of folders has, and of which class and split; `image_folder.config`'s."""

import hashlib

from casm_tf.data import annotations, pictures
from casm_tf.host import files

_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


def labelled(root):
    """The classes' names, and {split: paths of its pictures below the root}.

    Raises ValueError for a tree of another form.
    """
    folders = _folders(root)
    if "train" not in folders:
        classes = _classes(root, root, folders)
        splits = {"train": [], "validation": [], "test": []}
        for name in sorted(name for names in classes.values() for name in names):
            share = int(hashlib.md5(name.rpartition("/")[2].encode()).hexdigest()[:8], 16) % 10
            splits[{0: "validation", 1: "test"}.get(share, "train")].append(name)
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
            splits[split] = [name for names in classes.values() for name in names]
        if len(splits) == 1:
            raise ValueError(f"{root} has train/ alone: expected val/, validation/ or test/ too")
    if len(labels) < 2:
        raise ValueError(f"{root}: expected at least two class folders; found {labels}")
    for split, names in splits.items():
        if not names:
            raise ValueError(f"{root} has too few pictures: none falls into {split!r}")
    return tuple(labels), splits


def unlabelled(root):
    """{split: paths of its pictures below the root}, whatever folders they lie in.

    Raises ValueError where a split has none.
    """
    inside = {folder: _pictures_below(root, root / folder) for folder in _folders(root)}
    given = {_SPLITS[folder]: names for folder, names in inside.items() if folder in _SPLITS}
    if "train" in given and len(given) > 1:
        splits = given
    else:
        names = _pictures_below(root, root)
        # In an order that has nothing to do with what they show, and is the same everywhere.
        names.sort(key=lambda name: hashlib.md5(name.encode()).hexdigest())
        tenth = max(1, len(names) // 10)
        splits = {
            "train": sorted(names[2 * tenth :]),
            "validation": sorted(names[:tenth]),
            "test": sorted(names[tenth : 2 * tenth]),
        }
    for split, names in splits.items():
        if not names:
            raise ValueError(f"{root} has too few pictures: none is left for {split!r}")
    return splits


def passed_over(root, splits, has_boxes=False):
    """What of a tree is in none of its splits: files that are no pictures, and pictures.

    Hidden files do not count and, where it has boxes, neither do the files of boxes. Both are lists
    of paths below the root.
    """
    taken = {name for names in splits.values() for name in names}
    paths = (path.relative_to(root) for path in files.below(root))
    left = [path for path in paths if path.as_posix() not in taken]
    of_boxes = (".xml", ".csv") if has_boxes else ()
    others = [path for path in left if not pictures.is_named_so(path)]
    return (
        [path for path in others if path.suffix.lower() not in of_boxes],
        [path for path in left if pictures.is_named_so(path)],
    )


def stem(name):
    """A picture's path without its suffix, as annotations are joined to it."""
    return annotations.normal(name.rpartition(".")[0])


def _pictures_below(root, directory):
    """The pictures at any depth of a directory, as sorted paths below the root."""
    paths = (path for path in files.below(directory) if pictures.is_named_so(path))
    return sorted(path.relative_to(root).as_posix() for path in paths)


def _classes(root, directory, folders):
    """{class: paths of its pictures below the root}, both sorted."""
    if not folders:
        raise ValueError(f"{directory}: expected a folder for each class; found none")
    classes = {}
    for folder in folders:
        there = [x for x in (directory / folder).iterdir() if not files.is_hidden(x.name)]
        names = sorted(
            path.relative_to(root).as_posix() for path in there if pictures.is_named_so(path)
        )
        if not names:
            found = f"; found {pictures.kinds(there)}" if there else ""
            raise ValueError(f"{directory / folder}: a class folder without pictures{found}")
        classes[annotations.normal(folder)] = names
    return classes


def _folders(directory):
    paths = (path for path in directory.iterdir() if path.is_dir())
    return sorted(path.name for path in paths if not path.name.startswith("."))
