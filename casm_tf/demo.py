"""Masks of seven photographs that come with scikit-image and scikit-learn: python -m casm_tf.demo

Leaves each photograph's mask, overlay and cut-out in --output, as casm_tf.extract does, and
photographs.png: photograph, mask and cut-out of all seven side by side.
"""

import importlib.util
import pathlib

from absl import flags
from PIL import Image, ImageDraw

from casm_tf import extract
from casm_tf.cli import program
from casm_tf.host import files
from casm_tf.serving import mask_model

FLAGS = flags.FLAGS

_PHOTOGRAPHS = {
    "skimage": ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"),
    "sklearn": ("china.jpg", "flower.jpg"),
}
_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
_CELL = 200  # pixels a side, in the picture of all


def main():
    output = pathlib.Path(FLAGS.output)
    with program.blaming("output"):
        files.check_writable(output)
    model = mask_model.MaskModel.load()
    paths = photographs()
    masks = model(paths)
    with program.blaming("output", OSError):
        for path, mask in zip(paths, masks, strict=True):
            extract.write(mask, output / path.stem)
        sheet = side_by_side(paths, masks)
        with files.replacing(output / "photographs.png") as path:
            sheet.save(path)
    print(f"made  {output / 'photographs.png'}, and of each a mask, an overlay and a cut-out")
    print(f"next  {program.command('casm_tf.extract', 'PHOTO.jpg')}")


def photographs():
    """The paths of the seven, where the packages were installed."""
    # Not by importing them, which takes a second each.
    roots = {
        name: importlib.util.find_spec(name).submodule_search_locations[0] for name in _FOLDERS
    }
    return [
        pathlib.Path(roots[package], _FOLDERS[package], name)
        for package, names in _PHOTOGRAPHS.items()
        for name in names
    ]


def side_by_side(paths, masks):
    """A Pillow image of a column for each photograph: itself, its mask, its cut-out."""
    sheet = Image.new("RGB", (_CELL * len(paths), 3 * _CELL), "white")
    for column, (path, mask) in enumerate(zip(paths, masks, strict=True)):
        photograph = Image.open(path).convert("RGB")
        grey = Image.fromarray((255 * mask.mask).round().astype("uint8")).convert("RGB")
        cutout = Image.alpha_composite(Image.new("RGBA", photograph.size, "white"), mask.cutout())
        for row, picture in enumerate((photograph, grey, cutout.convert("RGB"))):
            sheet.paste(_square(picture), (_CELL * column, _CELL * row))
    return sheet


def _square(picture):
    """The square in the middle, as a cell with a thin white edge."""
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    cell = picture.crop((left, top, left + side, top + side)).resize((_CELL, _CELL))
    ImageDraw.Draw(cell).rectangle((0, 0, _CELL - 1, _CELL - 1), outline="white", width=2)
    return cell


if __name__ == "__main__":
    flags.DEFINE_string("output", "masks/demo", "The directory for what is written.")
    program.run(main)
