"""Masks of your photographs: python -m casm_tf.extract PHOTO.jpg FOLDER '*.png'

Takes picture files, folders (with what is in their folders) and globs. For each picture it leaves
three files in --output, in folders like those they were found in:

    NAME.mask.png      the mask at the picture's size, white = salient
    NAME.overlay.jpg   the picture in grey with the mask in orange and the box in blue
    NAME.cutout.png    the picture, transparent where the mask is black

and prints one line of JSON: file, width, height, box, boxes, label, probability, mask, overlay,
cutout. The box is [x0, y0, x1, y1], half-open, in pixels of the picture as it is looked at: turned
as its EXIF says; null where nothing is salient. The boxes are a list, for pictures of several
objects: the box, and one of each other piece of at least 1% of the picture, the largest first.
Every picture is seen as a whole, made square.

The model is the one for photographs that comes with the package, or --model: a run of
casm_tf.train or its model.keras, a model that components.pusher made, such as serving/casm, or one
of its versions, serving/casm/1 (a SavedModel, which is a program: take it from trusted places
only), or a server's, http://localhost:8501/v1/models/casm or grpc://localhost:8500/casm.

Pictures whose three files are there and newer than the picture are passed over, so that a call that
was broken off resumes; --overwrite makes them anew. Pictures that cannot be read, or whose files
cannot have their names (one of 250 bytes has no room for .mask.png), are named on standard error;
then the exit code is 1. It is 2 for a wrong flag or a file that is not there, before anything is
written. Files of other kinds in a folder are counted there.
"""

import concurrent.futures
import contextlib
import errno
import json
import os
import pathlib
import sys
import threading

from absl import flags
from PIL import PngImagePlugin
from tqdm import tqdm

from casm_tf import host
from casm_tf.cli import limits, picture_files, program
from casm_tf.data import pictures
from casm_tf.host import files
from casm_tf.serving import client, mask_model, masks

FLAGS = flags.FLAGS

_OF_SCENES = ("digit_scenes", "letter_scenes")
_OF_ONE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY)
_LARGE = 2**24  # pixels; of larger pictures one is written at a time, for memory's sake
_writing_a_large_one = threading.Lock()


def main(arguments):
    limits.apply()
    output = pathlib.Path(FLAGS.output)
    try:
        chosen, others = picture_files.find(arguments)
    except (ValueError, OSError) as error:
        raise program.UserError(str(error)) from error
    with program.blaming("output"):
        files.check_writable(output)
    if others:
        kinds = files.printable(pictures.kinds(others))
        print(
            f"left out  {len(others)} files are of no kind that is read ({kinds})", file=sys.stderr
        )
    chosen = [(path, output / target) for path, target in chosen]
    with program.blaming("model"):
        place = mask_model.located(FLAGS.model)
    made_by = picture_files.maker(place, (FLAGS.image_size,))
    left = [x for x in chosen if FLAGS.overwrite or not picture_files.is_made(*x, made_by)]
    if len(left) < len(chosen):
        passed = len(chosen) - len(left)
        print(f"passed over {passed} that are made already (--overwrite)", file=sys.stderr)
    failed = _extract(_open_model(place), left, made_by) if left else 0
    written = len(left) - failed
    print(f"made  a mask, an overlay and a cut-out of {written} in {output}", file=sys.stderr)
    if failed:
        print(f"{failed} of {len(left)} pictures could not be read or written", file=sys.stderr)
    print("next  docs/photographs.md tells how to make a model of your own", file=sys.stderr)
    return 1 if failed else None


def write(mask, target, made_by=""):
    """Write the files of a `masks.Mask`, `target` with an ending each; their paths by name.

    The mask's has `made_by` in it, by which a later call knows it.

    Of a picture nothing but itself is in memory at its full size and depth. Raises ValueError for a
    picture that cannot be read or whose files cannot have their names, OSError where no picture's
    can be written.
    """
    paths = picture_files.outputs(target)
    try:
        return _write(mask, target, paths, made_by)
    except OSError as error:
        if error.errno not in _OF_ONE_NAME:
            raise
        raise ValueError(str(error)) from error


def _write(mask, target, paths, made_by):
    with _writing_a_large_one if mask.size[0] * mask.size[1] > _LARGE else contextlib.nullcontext():
        image, opacity = mask.picture(), mask.opacity()
        target.parent.mkdir(parents=True, exist_ok=True)
        # The longest name first: where there is no room for it nothing is written.
        with files.replacing(paths["overlay"]) as unfinished:
            masks.overlaid(image, opacity, mask.box).save(unfinished, quality=90)
        image.putalpha(opacity)  # in place
        with files.replacing(paths["cutout"]) as unfinished:
            # At Pillow's own level, 6, photographs take longer and become little smaller.
            image.save(unfinished, compress_level=1)
        with files.replacing(paths["mask"]) as unfinished:
            text = PngImagePlugin.PngInfo()
            text.add_text(picture_files.MADE_BY, made_by)
            opacity.save(unfinished, pnginfo=text)
    return {name: str(path) for name, path in paths.items()}


def _open_model(place):
    with program.blaming("model", (ValueError, OSError, client.ServerError)):
        try:
            model = mask_model.MaskModel.load(place, FLAGS.image_size)
        except ImportError as error:
            raise ValueError("for grpc: pip install 'casm_tf[serving]'") from error
    if str(model.trained_on).partition("/")[0] in _OF_SCENES:
        print(
            f"note  --model was trained on {model.trained_on}, not on photographs; "
            "without --model the model for photographs is taken",
            file=sys.stderr,
        )
    return model


def _extract(model, chosen, made_by):
    """Make the files of (path, target) pairs; returns how many of them failed.

    Pictures are read and written in threads, beside the network's forward passes: while a batch is
    looked at, the next one is read and the one before it written.
    """
    batches = [
        chosen[start : start + FLAGS.batch_size]
        for start in range(0, len(chosen), FLAGS.batch_size)
    ]
    failed = 0
    with (
        concurrent.futures.ThreadPoolExecutor(host.cores()) as pool,
        tqdm(total=len(chosen), unit="picture") as progress,
    ):

        def read(batch):
            return [pool.submit(model.read, path) for path, _ in batch]

        def report(writing):
            nonlocal failed
            for (path, _), future in writing:
                try:
                    with program.blaming("output", OSError):
                        line = json.dumps(future.result())
                    tqdm.write(line, file=sys.stdout)
                except ValueError as error:
                    failed += 1
                    tqdm.write(files.printable(f"{path}: {error}"), file=sys.stderr)
                progress.update()

        reading, writing = read(batches[0]), []
        for number, batch in enumerate(batches):
            concurrent.futures.wait(reading)
            seen = reading
            reading = read(batches[number + 1]) if number + 1 < len(batches) else []
            try:
                found = iter(model.look([one.result() for one in seen if not one.exception()]))
            except client.ServerError as error:
                report(writing)
                start = number * FLAGS.batch_size
                rest = f"{batch[0][0]} and the {len(chosen) - start - 1} after it"
                raise program.UserError(f"--model: {error}; not made: {rest}") from error
            report(writing)
            writing = [
                (pair, one if one.exception() else pool.submit(_made, pair, next(found), made_by))
                for pair, one in zip(batch, seen, strict=True)
            ]
        report(writing)
    return failed


def _made(pair, found, made_by):
    """Write a picture's files, of the mask that was found; what is printed of them."""
    path, target = pair
    return {
        "file": str(path),
        "width": found.size[0],
        "height": found.size[1],
        "box": found.box,
        "boxes": found.boxes,
        "label": found.label,
        "probability": found.probability,
        **write(found, target, made_by),
    }


if __name__ == "__main__":
    # Here alone, as the functions above are imported beside programs with flags of these names.
    flags.DEFINE_string(
        "model",
        None,
        "A run of casm_tf.train, what components.pusher made, such as serving/casm, or a server's "
        "model; by default the model for photographs that comes with the package.",
    )
    flags.DEFINE_string("output", "masks", "The directory for what is written.")
    flags.DEFINE_integer("batch_size", 16, "Pictures a forward pass.", lower_bound=1)
    flags.DEFINE_integer(
        "image_size",
        None,
        "Pixels a side of what the network sees, a multiple of 32, if not the model's own: larger "
        "is slower and finer.",
        lower_bound=32,
    )
    flags.register_validator(
        "image_size", lambda size: size is None or size % 32 == 0, "expected a multiple of 32"
    )
    flags.DEFINE_bool("overwrite", False, "Make anew what is there already.")
    flags.declare_key_flag("max_pixels")
    try:
        program.run(main, takes_arguments=True, servers=("model",))
    except SystemExit as end:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it was closed
            stream.flush()
        os._exit(end.code or 0)  # TensorFlow takes up to a second to take itself apart
