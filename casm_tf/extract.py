"""Masks of your pictures: python -m casm_tf.extract --model=serving/casm/1 PHOTO.jpg FOLDER '*.png'

The model is a directory or a server's: --model=http://localhost:8501/v1/models/casm (REST) or
grpc://localhost:8500/casm. The directory is a SavedModel, which is a program: take it from trusted
places only. Takes picture files, folders (with what is in their folders) and globs.
For each picture it leaves three files in --output, in folders like those they were found in:

    NAME.mask.png      the mask at the picture's size, white = salient
    NAME.overlay.jpg   the picture in grey with the mask in orange and the box in blue
    NAME.cutout.png    the picture, transparent where the mask is black

and prints one line of JSON: file, width, height, box, label, probability, mask, overlay, cutout.
The box is [x0, y0, x1, y1], half-open, in pixels of the picture as it is looked at: turned as its
EXIF says; null where nothing is salient. Every picture is seen as a whole, made square.

Pictures that cannot be read are named on standard error; then the exit code is 1. It is 2 for a
wrong flag or a file that is not there, before anything is written.
"""

import collections
import json
import pathlib
import sys

import casm_tf.quiet  # noqa: F401  (before TensorFlow)

# isort: split

import numpy as np
from absl import flags
from PIL import Image, ImageDraw
from tqdm import tqdm

from casm_tf import client, files, limits, program
from casm_tf.data import pictures

FLAGS = flags.FLAGS

_ENDINGS = {"mask": ".mask.png", "overlay": ".overlay.jpg", "cutout": ".cutout.png"}
_TINT, _BOX_COLOR = "#E69F00", "#56B4E9"  # as in casm_tf.figures


def main(arguments):
    limits.apply()
    output = pathlib.Path(FLAGS.output)
    try:
        chosen = find(arguments)
    except (ValueError, OSError) as error:
        raise program.UserError(str(error)) from error
    with program.blaming("output"):
        files.check_writable(output)
    with program.blaming("model", (ValueError, client.ServerError)):
        try:
            model = client.open_model(FLAGS.model)
        except ImportError as error:
            raise ValueError("for grpc: pip install 'casm_tf[serving]'") from error

    unreadable = 0
    with tqdm(total=len(chosen), unit="picture") as progress:
        for start in range(0, len(chosen), FLAGS.batch_size):
            batch = chosen[start : start + FLAGS.batch_size]
            try:
                rows = look(model, batch)
            except client.ServerError as error:
                rest = f"{batch[0][0]} and the {len(chosen) - start - 1} after it"
                raise program.UserError(f"--model: {error}; not made: {rest}") from error
            for (path, target), row in zip(batch, rows, strict=True):
                try:
                    with program.blaming("output", OSError):
                        line = json.dumps(write(path, row, output / target))
                    tqdm.write(line, file=sys.stdout)
                except ValueError as error:
                    unreadable += 1
                    tqdm.write(files.printable(f"{path}: {error}"), file=sys.stderr)
                progress.update()
    written = len(chosen) - unreadable
    print(f"made  a mask, an overlay and a cut-out of {written} in {output}", file=sys.stderr)
    if unreadable:
        print(f"{unreadable} of {len(chosen)} pictures could not be read", file=sys.stderr)
        return 1


def find(arguments):
    """The pictures that files, folders and globs name: pairs of a path and its outputs' name.

    The name is the path below the folder that was searched, without its suffix. In folders and by
    globs only what is called a picture is taken, neither hidden files nor our own outputs. A
    picture that is named twice is taken once. Raises ValueError where an argument names no picture
    or two pictures would have the same outputs.
    """
    if not arguments:
        raise ValueError("takes picture files, folders or globs; found none")
    found, seen = {}, set()
    for argument in arguments:
        for path, relative in _named(argument):
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
                f"{targets[target]} and {path} would both become {target}{_ENDINGS['mask']}; "
                "name the folder that both are in, or call the program for each"
            )
        targets[target] = path
    return [(path, target) for target, path in targets.items()]


def look(model, batch):
    """What a model of client.py gives for a batch of (path, target) pairs, a dict a picture.

    For a picture that cannot be read it is None; `write` tells why.
    """
    images = [_squashed(path, model.image_size) for path, _ in batch]
    read = [image for image in images if image is not None]
    if not read:
        return [None] * len(images)
    outputs = model.predict(np.stack(read))
    rows = iter(zip(*outputs.values(), strict=True))
    return [
        None if image is None else dict(zip(outputs, next(rows), strict=True)) for image in images
    ]


def write(path, row, target):
    """Write a picture's files, `target` with an ending each; returns what is printed of it.

    `row` is what `look` gave. Of a picture nothing but itself is in memory at its full size and
    depth. Raises ValueError for a picture that cannot be read, OSError where one cannot write.
    """
    image = pictures.open_rgb(path)
    if row is None:
        raise ValueError("changed while it was read")
    mask = row["mask"][..., 0]
    box = _in_pixels(row["box"], len(mask), image.size)
    paths = {name: target.with_name(target.name + ending) for name, ending in _ENDINGS.items()}
    target.parent.mkdir(parents=True, exist_ok=True)

    opacity = Image.fromarray(np.round(255 * mask).astype(np.uint8))
    opacity = opacity.resize(image.size, Image.Resampling.BILINEAR)
    with files.replacing(paths["mask"]) as unfinished:
        opacity.save(unfinished)
    overlay = image.convert("L").convert("RGB")
    overlay.paste(_TINT, mask=opacity.point(lambda value: 0.7 * value))
    if box:
        x0, y0, x1, y1 = box
        edge = max(1, round(max(image.size) / 300))
        ImageDraw.Draw(overlay).rectangle((x0, y0, x1 - 1, y1 - 1), outline=_BOX_COLOR, width=edge)
    with files.replacing(paths["overlay"]) as unfinished:
        overlay.save(unfinished, quality=90)
    del overlay
    image.putalpha(opacity)  # in place
    with files.replacing(paths["cutout"]) as unfinished:
        # At Pillow's own level, 6, photographs take longer and become little smaller.
        image.save(unfinished, compress_level=1)
    return {
        "file": str(path),
        "width": image.width,
        "height": image.height,
        "box": box,
        "label": row["label"],
        "probability": float(row["probabilities"].max()),
        **{name: str(path) for name, path in paths.items()},
    }


def _squashed(path, size):
    """A whole picture made square, uint8 [size, size, 3]; None where it cannot be read."""
    try:
        # At least twice the size: JPEG's own reduction is not as smooth as what follows.
        image = pictures.open_rgb(path, at_least=2 * size)
    except ValueError:
        return None
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _in_pixels(box, cells, size):
    """A box in fractions of a mask of `cells` a side -> the pixels of the picture it is on.

    [x0, y0, x1, y1], half-open; None for a box that is empty. `size` is (width, height).
    """
    x0, y0, x1, y1 = np.round(box * cells).astype(int).tolist()
    if x0 == x1:
        return None
    width, height = size
    return [
        x0 * width // cells,
        y0 * height // cells,
        -(-x1 * width // cells),
        -(-y1 * height // cells),
    ]


def _named(argument):
    """The pictures of one argument: pairs of a path and its part below where the search began."""
    path = pathlib.Path(argument)
    if path.is_file():
        return [(path, pathlib.Path(path.name))]
    if path.is_dir():
        root, found = path, path.rglob("*")
    else:
        parts = path.parts
        wild = [number for number, part in enumerate(parts) if set(part) & set("*?[")]
        if not wild:
            raise ValueError(f"there is no {argument}")
        root = pathlib.Path(*parts[: wild[0]])
        found = root.glob(str(pathlib.Path(*parts[wild[0] :])))
    pairs = [(path, path.relative_to(root)) for path in sorted(found) if _is_picture(path)]
    if any(".." in relative.parts for _, relative in pairs):
        raise ValueError(f"{argument}: expected no .. behind a wildcard")
    if not pairs:
        raise ValueError(f"there is no picture in {argument}")
    return pairs


def _is_picture(path):
    return (
        path.suffix.lower() in pictures.SUFFIXES
        and not path.name.startswith(".")
        and not path.name.endswith(tuple(_ENDINGS.values()))
        and path.is_file()
    )


if __name__ == "__main__":
    # Here alone, as the functions above are imported beside programs with flags of these names.
    flags.DEFINE_string(
        "model",
        None,
        "A version that components.pusher made, such as serving/casm/1, or a server's model: "
        "http://HOST:PORT/v1/models/casm or grpc://HOST:PORT/casm.",
        required=True,
    )
    flags.DEFINE_string("output", "masks", "The directory for what is written.")
    flags.DEFINE_integer("batch_size", 16, "Pictures a forward pass.", lower_bound=1)
    flags.declare_key_flag("max_pixels")
    program.run(main, takes_arguments=True)
