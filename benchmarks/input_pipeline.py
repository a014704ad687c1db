"""JPEG files to training batches, against a loader of PIL's: python -m benchmarks.input_pipeline

Both take the same files of 500x375 pixels, cut out a random resized crop, mirror every second one,
resize to 224x224 and normalise. Ours is timed twice: where the pictures are kept decoded, as so few
are, after the first time; and where each is read and decoded anew. Rates are images per second of
processor time, so that cores do not matter. The last line is {"ratio_pil_per_core": {"kept": x,
"anew": y}, "images_per_second_per_core": {...}}.
"""

import json
import math
import pathlib
import random
import tempfile
import time
from unittest import mock

import casm_tf.host.quiet  # noqa: F401

# isort: split

import cv2
import numpy as np
import skimage.data
from absl import flags
from PIL import Image

from casm_tf.cli import program
from casm_tf.data import datasets, input_pipeline

FLAGS = flags.FLAGS

flags.DEFINE_integer("files", 400, "JPEG files of 500x375 pixels.", lower_bound=32)
flags.DEFINE_integer("images", 2000, "Read by each in a round.", lower_bound=32)
flags.DEFINE_integer("rounds", 3, "The median of them counts.", lower_bound=1)

_SIZE, _SMALLEST_CROP, _BATCH, _WARM_UP = 224, 0.08, 32, 20


def main():
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        paths = _write_pictures(directory / "pictures")
        dataset = datasets.open_dataset(
            "image_folder",
            directory / "data",
            image_dir=directory / "pictures",
            image_size=_SIZE,
        )
        rates = {"kept": [], "anew": [], "pil": []}
        for _ in range(FLAGS.rounds):
            for name, kept_bytes in (("kept", input_pipeline.KEPT_BYTES), ("anew", 0)):
                rates[name].append(_rate_of_ours(dataset, kept_bytes))
            rates["pil"].append(_rate(lambda: _pil_batch(paths, dataset)))
            for name, found in rates.items():
                print(f"{name:8}{found[-1]:8.0f} images a second and core", flush=True)
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    ratios = {name: medians[name] / medians["pil"] for name in ("kept", "anew")}
    print(json.dumps({"ratio_pil_per_core": ratios, "images_per_second_per_core": medians}))


def _rate_of_ours(dataset, kept_bytes):
    with mock.patch.object(input_pipeline, "KEPT_BYTES", kept_bytes):
        batches = input_pipeline.training_batches(
            dataset, _BATCH, seed=0, smallest_crop=_SMALLEST_CROP, flip=True
        )
    # The iterator works ahead: it is there in its own turn alone, and first it warms up.
    iterator = batches.as_numpy_iterator()
    for _ in range(_WARM_UP):
        next(iterator)
    return _rate(iterator.next)


def _write_pictures(directory):
    """Crops of a photograph in ten classes, as files of ImageNet's usual size and quality."""
    photograph = skimage.data.astronaut()[..., ::-1]
    generator = np.random.default_rng(0)
    paths = []
    for number in range(FLAGS.files):
        y, x = generator.integers(0, [512 - 300, 512 - 400])
        picture = cv2.resize(photograph[y : y + 300, x : x + 400], (500, 375))
        # As a camera's: without any noise a file is too small.
        noise = generator.normal(0, 6, picture.shape)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
        path = directory / f"class{number % 10}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        paths.append(path)
    return paths


def _rate(read):
    """Images per second of processor time."""
    start = time.process_time()
    for _ in range(FLAGS.images // _BATCH):
        read()
    return FLAGS.images // _BATCH * _BATCH / (time.process_time() - start)


def _pil_batch(paths, dataset):
    """As torchvision's ImageNet loader makes it of PIL's pictures, without its worker processes."""
    images = []
    for path in random.choices(paths, k=_BATCH):
        picture = Image.open(path).convert("RGB")
        left, top, width, height = _crop(*picture.size)
        picture = picture.resize(
            (_SIZE, _SIZE), Image.Resampling.BILINEAR, (left, top, left + width, top + height)
        )
        if random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = np.asarray(picture, np.float32) / 255
        images.append((image - np.float32(dataset.mean)) / np.float32(dataset.std))
    return np.stack(images)


def _crop(width, height):
    """left, top, width, height of RandomResizedCrop."""
    for _ in range(10):
        area = random.uniform(_SMALLEST_CROP, 1) * width * height
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if w <= width and h <= height:
            return random.randint(0, width - w), random.randint(0, height - h), w, h
    return 0, 0, width, height


if __name__ == "__main__":
    program.run(main)
