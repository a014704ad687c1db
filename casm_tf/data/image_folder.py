"""image_folder: your own pictures, in a folder for each class or in none, as a TFDS data set."""

import concurrent.futures
import dataclasses
import hashlib
import io
import json
import pathlib
import shutil

import cv2
import tensorflow_datasets as tfds

from casm_tf.data import annotations, damage, picture_tree, pictures, skipped
from casm_tf.host import files

# What ImageNet's training pictures have, and what every network trained on it expects.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_AT_ONCE = 256  # pictures read ahead


@dataclasses.dataclass(kw_only=True)
class ImageFolderConfig(tfds.core.BuilderConfig):
    """A tree of pictures; made by `config`.

    Attributes:
        image_dir: the tree's root.
        labels: the classes' names; of pictures without labels those that a classifier knows.
        is_labelled: whether the last folder of a picture's path is its class.
        pictures: {split: paths of its pictures below the root}.
        boxes: {picture without its suffix: path of an XML file, or boxes in pixels}, or None.
        masks: {picture without its suffix: path of a PNG}, or None.
        unmatched: {"boxes" or "masks": lines that tell which of them belong to no picture}.
    """

    image_dir: pathlib.Path
    labels: tuple[str, ...] = dataclasses.field(repr=False)
    is_labelled: bool
    pictures: dict[str, list[str]] = dataclasses.field(repr=False)
    boxes: dict | None = dataclasses.field(repr=False)
    masks: dict | None = dataclasses.field(repr=False)
    unmatched: dict[str, list[str]] = dataclasses.field(repr=False)


def config(image_dir, boxes=None, masks=None, unlabelled_as=None):
    """The `ImageFolderConfig` of a tree.

    The tree is train/<class>/<picture> and the same with val/, validation/ or test/; or
    <class>/<picture>, and then 8 of 10 pictures are for training, 1 for validation and 1 for
    testing, by a hash of their names. Other files are passed over, and so are pictures in folders
    within a class's; what is told of them is in `skipped`.

    With `unlabelled_as`, the names of the classes that some classifier knows, pictures have no
    labels: any folder will do, all pictures at any depth are taken, and their label is -1.

    `boxes` is a folder of ILSVRC or VOC XML files or a CSV (`annotations.read_table`), `masks` a
    folder of PNGs; both are joined to the pictures by name. The config's name holds a hash of all
    names and of the CSV, so that a tree with other files is another data set.

    Raises ValueError for a tree of another form, a class without pictures, and boxes or masks that
    belong to no picture; OSError for what cannot be read.
    """
    for path in filter(None, (image_dir, boxes, masks)):
        if not pathlib.Path(path).exists():
            raise ValueError(f"there is no {path}")
    root = pathlib.Path(image_dir).resolve()
    if unlabelled_as is None:
        labels, names = picture_tree.labelled(root)
    else:
        labels, names = tuple(unlabelled_as), picture_tree.unlabelled(root)
    stems = [picture_tree.stem(name) for split in names.values() for name in split]
    digest = hashlib.sha256("\n".join(sorted(stems)).encode())
    if unlabelled_as is not None:
        digest.update("\n".join(["unlabelled", *labels]).encode())
    found, unmatched = {"boxes": None, "masks": None}, {}
    for kind, path in (("boxes", boxes), ("masks", masks)):
        if path is None:
            continue
        if kind == "masks" or pathlib.Path(path).is_dir():
            there = annotations.files_below(path, ".png" if kind == "masks" else ".xml")
            digest.update("\n".join([kind, *sorted(there)]).encode())
        else:
            there = annotations.read_table(path)
            digest.update(pathlib.Path(path).read_bytes())
        pairs = annotations.join(stems, there)
        if not pairs:
            raise ValueError(f"{path} has no {kind} of a picture in {root}")
        found[kind] = {picture: there[name] for picture, name in pairs.items()}
        unmatched[kind] = annotations.unmatched(path, there, pairs.values())
        if kind == "masks":
            unmatched[kind] += annotations.not_png(path, there)
    return ImageFolderConfig(
        name=f"{root.name}_{digest.hexdigest()[:12]}",
        image_dir=root,
        labels=labels,
        is_labelled=unlabelled_as is None,
        pictures=names,
        unmatched=unmatched,
        **found,
    )


def prepared(tree, data_dir=None):
    """The builder of an `ImageFolderConfig`, its data on disk: written first if they are not there.

    A preparation that was broken off is begun again, without decoding what it had found to be good,
    which is most of the work; one that another process is at is waited for. Raises ValueError where
    more than 1% of the pictures cannot be read.
    """
    with damage.naming_description(f"image_folder/{tree.name}", data_dir):
        builder = ImageFolder(config=tree, data_dir=data_dir)
    directory = pathlib.Path(builder.data_dir)
    if directory.exists():
        skipped.remind(_list(builder))
    else:
        with files.locked(directory.parent / "lock"):
            for unfinished in directory.parent.glob(f"incomplete.*_{directory.name}"):
                shutil.rmtree(unfinished)
            builder = ImageFolder(config=tree, data_dir=data_dir)  # It may be there by now.
            builder.download_and_prepare()
            _journal(builder).unlink(missing_ok=True)
        skipped.say(builder.left_out)
    return builder


def _list(builder):
    """The file that lists what is left out."""
    return pathlib.Path(builder.data_dir).parent / "skipped.txt"


def _journal(builder):
    """The file that lists the pictures that a preparation under way has found good."""
    # data_dir is another one while it is written; both have one parent.
    return pathlib.Path(builder.data_dir).parent / "unfinished.good"


class ImageFolder(tfds.core.GeneratorBasedBuilder):
    """Pictures of any size in a folder for each class, with boxes and masks where there are any.

    What cannot be read is left out, and listed with the reason in skipped.txt beside the data.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = []
    left_out = ""  # what is to be said of that

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=self.builder_config.labels),
            "file_name": tfds.features.Text(),
        }
        if self.builder_config.boxes is not None:
            features["bbox"] = tfds.features.Sequence(tfds.features.BBoxFeature())
        if self.builder_config.masks is not None:
            # One, or none for a picture without.
            features["masks"] = tfds.features.Sequence(tfds.features.Image(shape=(None, None, 1)))
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            description=__doc__,
            metadata=tfds.core.MetadataDict({"mean": MEAN, "std": STD}),
        )

    def _split_generators(self, dl_manager):
        self._skipped = skipped.Skipped(self.builder_config, _list(self))
        self._splits_left = len(self.builder_config.pictures)
        self._good = _read_journal(_journal(self))
        return {split: self._generate_examples(split) for split in self.builder_config.pictures}

    def _generate_examples(self, split):
        tree = self.builder_config
        names = tree.pictures[split]
        # Pillow and TensorFlow let go of the interpreter's lock while they decode.
        pool = concurrent.futures.ThreadPoolExecutor()
        with pool, _journal(self).open("a", encoding="utf-8") as journal:
            for start in range(0, len(names), _AT_ONCE):
                some = names[start : start + _AT_ONCE]
                for name, (example, found) in zip(some, pool.map(self._example, some), strict=True):
                    if example is not None:
                        yield name, example
                    if found is not None:
                        journal.write(json.dumps([name, *found]) + "\n")
                journal.flush()
        self._splits_left -= 1
        is_empty = all(name in self._skipped.bad for name in names)
        if is_empty or not self._splits_left:  # of an empty one TFDS would raise an AssertionError
            self.left_out = self._skipped.report(empty=split if is_empty else None)

    def _example(self, name):
        """The example of one picture, or None if it is bad; and a line for the journal, or None."""
        tree, stem = self.builder_config, picture_tree.stem(name)
        label = annotations.normal(name.split("/")[-2]) if tree.is_labelled else -1
        example = {"label": label, "file_name": name}
        found = None
        try:
            path = tree.image_dir / name
            changed = path.stat().st_mtime_ns
            if self._good.get(name, (None,))[0] == changed:
                size = tuple(self._good[name][1])
                picture = pictures.Picture(path.read_bytes(), size, size, is_as_stored=True)
            else:
                picture = pictures.read(path)
                if picture.is_as_stored:
                    found = (changed, picture.size)
            if tree.boxes is not None:
                boxes = _boxes(tree.boxes.get(stem), example["label"], picture)
                if len(boxes):
                    self._skipped.boxes[name] = boxes
                boxes, _ = annotations.clipped(boxes)
                # From x0, y0, x1, y1 to ymin, xmin, ymax, xmax.
                example["bbox"] = [tfds.features.BBox(*box) for box in boxes[:, [1, 0, 3, 2]]]
            if tree.masks is not None:
                mask = _mask(tree.masks.get(stem), picture)
                example["masks"] = [] if mask is None else [_png(mask)]
                if mask is not None and mask.min() == mask.max():
                    self._skipped.blank[name] = "everywhere" if mask.any() else "nowhere"
        except (ValueError, OSError) as error:
            self._skipped.bad[name] = str(error)
            return None, found
        return {"image": io.BytesIO(picture.data), **example}, found


def _read_journal(path):
    """{picture: (when it was changed, its size)} of a preparation that was broken off."""
    good = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                name, changed, size = json.loads(line)
            except ValueError:  # the last line, cut off
                continue
            good[name] = changed, size
    return good


def _boxes(source, label, picture):
    """Shares [N, 4] from an XML file, from pixels, or none."""
    if isinstance(source, pathlib.Path):
        return annotations.read_xml(source, label, picture.size, picture.size_before)
    return annotations.shares(source or [], picture.size)


def _mask(path, picture):
    """A picture's mask, uint8 [H, W], or None."""
    if path is None:
        return None
    try:
        mask = pictures.read_mask(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if mask.shape[::-1] != picture.size:
        raise ValueError(f"{path} is of {mask.shape[::-1]} pixels, the picture of {picture.size}")
    return mask


def _png(mask):
    return io.BytesIO(cv2.imencode(".png", mask)[1].tobytes())
