"""tiny_imagenet: 110,000 pictures of 64 pixels and of 200 of ImageNet's classes, each with a box.

By the course CS231n of Stanford University. Its test pictures have no labels and are left out.
"""

import csv
import pathlib

import tensorflow_datasets as tfds

_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_FOLDER = "tiny-imagenet-200"
_SIZE = 64
# Of each class WordNet's number and the first of its words, in the numbers' order.
_CLASSES = [
    line.split(" ", 1)
    for line in pathlib.Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
]


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """Tiny ImageNet with its boxes: 500 training and 50 validation pictures a class."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Nothing is downloaded where {_FOLDER}/ lies here, unpacked, or as a link.
    """

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(_SIZE, _SIZE, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=[name for _, name in _CLASSES]),
                    "file_name": tfds.features.Text(),
                    "bbox": tfds.features.Sequence(tfds.features.BBoxFeature()),
                }
            ),
            supervised_keys=("image", "label"),
            description=__doc__,
            metadata=tfds.core.MetadataDict({"wnids": [wnid for wnid, _ in _CLASSES]}),
        )

    def _split_generators(self, dl_manager):
        try:
            there = dl_manager.manual_dir / _FOLDER
        except AssertionError:  # There is no such folder.
            there = None
        if there is None or not there.exists():
            there = dl_manager.download_and_extract(_URL) / _FOLDER
        root = pathlib.Path(there)
        return {
            "train": self._generate_examples(_training(root / "train")),
            "validation": self._generate_examples(_validation(root / "val")),
        }

    def _generate_examples(self, pictures):
        for path, label, box in pictures:
            x0, y0, x1, y1 = map(int, box)  # of a box's corners, which are inside of it
            y1, x1 = y1 + 1, x1 + 1
            box = tfds.features.BBox(y0 / _SIZE, x0 / _SIZE, y1 / _SIZE, x1 / _SIZE)
            named = {"label": label, "file_name": path.name}
            yield path.name, {"image": path, "bbox": [box], **named}


def _training(folder):
    """(path, label, corners) of each picture."""
    for wnid, label in _CLASSES:
        for name, *box in _rows(folder / wnid / f"{wnid}_boxes.txt"):
            yield folder / wnid / "images" / name, label, box


def _validation(folder):
    """(path, label, corners) of each picture."""
    labels = dict(_CLASSES)
    for name, wnid, *box in _rows(folder / "val_annotations.txt"):
        yield folder / "images" / name, labels[wnid], box


def _rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.reader(file, delimiter="\t")
