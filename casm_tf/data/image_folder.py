"""image_folder: your own pictures, in a folder for each class or in none, as a TFDS data set."""

import concurrent.futures
import contextlib
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
# Lists beside the data: what is left out, and what a preparation under way has found good.
_LEFT_OUT, _GOOD = "skipped.txt", "unfinished.good"


@dataclasses.dataclass(kw_only=True)
class ImageFolderConfig(tfds.core.BuilderConfig):
    """A tree of pictures; made by `config`.

    Attributes:
        image_dir: the tree's root.
        labels: the classes' names; of pictures without labels those that a classifier knows.
        is_labelled: whether the last folder of a picture's path is its class.
        pictures: {split: {path of a picture below the root: its `files.stamp`}}.
        boxes: {picture: (path of an XML file, its stamp), or boxes in pixels}, or None.
        masks: {picture: (path of a PNG, its stamp)}, or None.
        unmatched: {"boxes" or "masks": lines that tell which of them belong to no picture}.
    """

    image_dir: pathlib.Path
    labels: tuple[str, ...] = dataclasses.field(repr=False)
    is_labelled: bool
    pictures: dict[str, dict[str, tuple]] = dataclasses.field(repr=False)
    boxes: dict | None = dataclasses.field(repr=False)
    masks: dict | None = dataclasses.field(repr=False)
    unmatched: dict[str, list[str]] = dataclasses.field(repr=False)


def config(image_dir, boxes=None, masks=None, unlabelled_as=None):
    """The `ImageFolderConfig` of a tree.

    The tree is train/<class>/<picture> and the same with val/, validation/ or test/; or
    <class>/<picture>, and then 8 of 10 pictures are for training, 1 for validation and 1 for
    testing, by a hash of their paths. Other files are passed over, and so are pictures in folders
    within a class's; what is told of them is in `skipped`.

    With `unlabelled_as`, the names of the classes that some classifier knows, pictures have no
    labels: any folder will do, all pictures at any depth are taken, and their label is -1.

    `boxes` is a folder of ILSVRC or VOC XML files or a CSV (`annotations.read_table`), `masks` a
    folder of PNGs; both are joined to the pictures by name. The config's name holds a hash of the
    folders, of all files' names, sizes and times of change, of the CSV's boxes and of the labels:
    another tree, or one in which anything was changed, is another data set. A file that was changed
    with its size and time kept is not noticed.

    Raises ValueError for a tree of another form, a class without pictures, and boxes or masks that
    belong to no picture; OSError for what cannot be read.
    """
    for path in filter(None, (image_dir, boxes, masks)):
        if not pathlib.Path(path).exists():
            raise ValueError(f"there is no {path}")
    root = pathlib.Path(image_dir).resolve()
    if not root.is_dir():
        raise ValueError(f"{image_dir}: expected a folder")
    if unlabelled_as is None:
        labels, names = picture_tree.labelled(root)
    else:
        labels, names = tuple(unlabelled_as), picture_tree.unlabelled(root)
    every = [name for split in names.values() for name in split]
    found, unmatched = {"boxes": None, "masks": None}, {}
    for kind, path in (("boxes", boxes), ("masks", masks)):
        if path is not None:
            found[kind], unmatched[kind] = _beside(every, kind, pathlib.Path(path).resolve())
            if not found[kind]:
                raise ValueError(f"{path} has no {kind} of a picture in {root}")
    source = hashlib.sha256()
    for part in (root, labels, unlabelled_as is None, *found.values()):
        source.update(f"{part}\n".encode(errors="surrogateescape"))
    for split, of_split in names.items():
        for name, stamp in of_split.items():
            source.update(f"{split}/{annotations.normal(name)} {stamp}\n".encode())
    # A part of it, as names may be no longer than 255 bytes.
    name = root.name.encode(errors="replace")[:200].decode(errors="ignore")
    return ImageFolderConfig(
        name=f"{name}_{source.hexdigest()[:12]}",
        image_dir=root,
        labels=labels,
        is_labelled=unlabelled_as is None,
        pictures=names,
        unmatched=unmatched,
        **found,
    )


def _beside(names, kind, path):
    """The boxes or masks of a config, sorted, and lines on those that belong to no picture."""
    if kind == "masks" or path.is_dir():
        there = annotations.files_below(path, ".png" if kind == "masks" else ".xml")
    else:
        there = annotations.read_table(path)
    pairs = annotations.join(names, there)
    unmatched = annotations.unmatched(path, there, pairs.values())
    if kind == "masks":
        unmatched += annotations.not_png(path, there)
    found = {}
    for picture, name in sorted(pairs.items()):
        one = there[name]
        found[picture] = one if isinstance(one, list) else (one, files.stamp(one))
    return found, unmatched


def prepared(tree, data_dir=None):
    """The builder of an `ImageFolderConfig`, its data on disk: written first if they are not there.

    A preparation that was broken off is begun again, without decoding what it had found to be good,
    which is most of the work; one that another process is at is waited for. Raises ValueError where
    more than 1% of the pictures cannot be read, or a file was changed since the config was made.
    """
    with damage.naming_description(f"image_folder/{tree.name}", data_dir):
        builder = ImageFolder(config=tree, data_dir=data_dir)
    directory = pathlib.Path(builder.data_dir)
    if not directory.exists():
        with files.locked(directory.parent / "lock"):
            for unfinished in directory.parent.glob(f"incomplete.*_{directory.name}"):
                shutil.rmtree(unfinished)
            builder = ImageFolder(config=tree, data_dir=data_dir)  # It may be there by now.
            builder.download_and_prepare()
            _beside_data(builder, _GOOD).unlink(missing_ok=True)
    skipped.say(builder.left_out, _beside_data(builder, _LEFT_OUT))
    return builder


def check_says_of_what(builder):
    """Raise ValueError for an image_folder that does not say of which pictures it was made."""
    sums = {f"{split}_sha256" for split in builder.info.splits}
    if builder.name == ImageFolder.name and not sums <= set(builder.info.metadata or {}):
        raise ValueError(f"{builder.data_dir}/metadata.json is damaged: {damage.REMEDY}")


def _beside_data(builder, name):
    """The path of a list: data_dir is another one while it is written; both have one parent."""
    return pathlib.Path(builder.data_dir).parent / name


class ImageFolder(tfds.core.GeneratorBasedBuilder):
    """Pictures of any size in a folder for each class, with boxes and masks where there are any.

    What cannot be read is left out, and listed with the reason in skipped.txt beside the data.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = []
    left_out = ""  # a line on that, once the data are prepared

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
        self._skipped = skipped.Skipped(self.builder_config, _beside_data(self, _LEFT_OUT))
        self._splits_left = len(self.builder_config.pictures)
        self._good = _read_journal(_beside_data(self, _GOOD))
        return {split: self._generate_examples(split) for split in self.builder_config.pictures}

    def _generate_examples(self, split):
        tree = self.builder_config
        # In one order in whichever code points the names are: the sum is of it.
        names = sorted(tree.pictures[split], key=annotations.normal)
        digest = hashlib.sha256()
        # Pillow and TensorFlow let go of the interpreter's lock while they decode.
        pool = concurrent.futures.ThreadPoolExecutor()
        with pool, _beside_data(self, _GOOD).open("a", encoding="utf-8") as journal:
            for start in range(0, len(names), _AT_ONCE):
                some = names[start : start + _AT_ONCE]
                stamps = map(tree.pictures[split].get, some)
                read = pool.map(self._example, some, stamps)
                for name, (example, of_file, size) in zip(some, read, strict=True):
                    if example is not None:
                        digest.update(annotations.normal(name).encode() + b"\0" + of_file)
                        yield name, example
                    if size is not None:
                        journal.write(json.dumps([name, size]) + "\n")
                journal.flush()
        self.info.metadata[f"{split}_sha256"] = digest.hexdigest()
        self._splits_left -= 1
        is_empty = all(name in self._skipped.bad for name in names)
        if is_empty or not self._splits_left:  # of an empty one TFDS would raise an AssertionError
            self.left_out = self._skipped.report(empty=split if is_empty else None)

    def _example(self, name, stamp):
        """A picture's example, or None if it is bad; its digest; its size for the journal, or None.

        Raises ValueError where one of its files is no longer as it was when the tree was looked at.
        """
        tree = self.builder_config
        label = annotations.normal(name.split("/")[-2]) if tree.is_labelled else -1
        boxes, mask = ((found or {}).get(name) for found in (tree.boxes, tree.masks))
        sources = [(tree.image_dir / name, stamp)]
        sources += [source for source in (boxes, mask) if isinstance(source, tuple)]
        example, picture = {"label": label, "file_name": name}, None
        try:
            picture = self._picture(name)
            if tree.boxes is not None:
                example["bbox"] = self._boxes(name, boxes, label, picture)
            if tree.masks is not None:
                example["masks"] = self._masks(name, mask, picture)
        except (ValueError, OSError) as error:
            self._skipped.bad[name], example = str(error), None
        for path, before in sources:
            if files.stamp(path) != before:
                raise ValueError(f"{path} was changed in the meantime: begin anew")
        if picture is None:
            return None, None, None
        if example is not None:
            example["image"] = io.BytesIO(picture.data)
        return example, picture.digest, picture.size if picture.is_as_stored else None

    def _picture(self, name):
        """A picture, not decoded again if a preparation that was broken off found it good."""
        path = self.builder_config.image_dir / name
        if name not in self._good:
            return pictures.read(path)
        data, size = path.read_bytes(), tuple(self._good[name])
        return pictures.Picture(data, size, size, True, hashlib.sha256(data).digest())

    def _boxes(self, name, source, label, picture):
        """The boxes of a picture, from an XML file, from pixels, or none."""
        if isinstance(source, tuple):
            sizes = picture.size, picture.size_before
            boxes = annotations.read_xml(source[0], label, *sizes)
        else:
            boxes = annotations.shares(source or [], picture.size)
        if len(boxes):
            self._skipped.boxes[name] = boxes
        boxes, _ = annotations.clipped(boxes)
        # From x0, y0, x1, y1 to ymin, xmin, ymax, xmax.
        return [tfds.features.BBox(*box) for box in boxes[:, [1, 0, 3, 2]]]

    def _masks(self, name, source, picture):
        """A list of one PNG, or of none."""
        if source is None:
            return []
        path, _ = source
        try:
            mask = pictures.read_mask(path)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if mask.shape[::-1] != picture.size:
            found = mask.shape[::-1]
            raise ValueError(f"{path} is of {found} pixels, the picture of {picture.size}")
        if mask.min() == mask.max():
            self._skipped.blank[name] = "everywhere" if mask.any() else "nowhere"
        return [io.BytesIO(cv2.imencode(".png", mask)[1].tobytes())]


def _read_journal(path):
    """{picture: its size} of a preparation, of the very same files, that was broken off."""
    good = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # the last line, cut off
                name, size = json.loads(line)
                good[name] = size
    return good
