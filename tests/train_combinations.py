"""Train with a combination of flags as casm_tf.train would, in a fork of programs.py."""

import os
import pathlib
import re
import resource
import signal
import threading
import time

import cv2
import keras
import numpy as np
import programs
from trees import write_tree, xml

from casm_tf import networks
from casm_tf.data import datasets
from casm_tf.training import run_directory

_SECONDS = 240  # a combination; XLA takes one
_BYTES = 12 * 2**30  # of addresses: what asks for more memory is to fail, not to fill the machine


def train(run_dir, *flags):
    """Train, or be refused; what is made is then looked at, and said in the file `looked at`."""
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    signal.alarm(_SECONDS)
    if any(re.fullmatch(r"--(pretraining_)?steps=\d{4,}", flag) for flag in flags):
        threading.Thread(target=_stop_soon, args=(run_dir,), daemon=True).start()
    try:
        programs.run_module("casm_tf.train", *flags)
    except SystemExit as end:
        if end.code:
            raise
    pathlib.Path("looked at").write_text(_look_at(pathlib.Path(run_dir) / "model.keras"))


def _stop_soon(run_dir):
    """Ask a training of more steps than one can wait for to stop, once it has begun."""
    while not any((pathlib.Path(run_dir) / part).exists() for part in ("pretraining", "masks")):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)


def _look_at(path):
    """What is wrong with a model's masks, or nothing."""
    if not path.exists():
        return "no model"
    model = keras.models.load_model(path, compile=False)
    images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")
    masks = np.asarray(model(images)["mask"])
    if masks.shape != (*images.shape[:3], 1):
        return f"masks of the shape {masks.shape}"
    if not np.isfinite(masks).all() or masks.min() < 0 or masks.max() > 1:
        return f"masks from {masks.min()} to {masks.max()}"
    return "good masks"


def make_files(root):
    """What the tables of flag_combinations.py name below {root}."""
    for name in ("nothing", "voc", "masks", "home"):
        (root / name).mkdir()
    (root / "empty").touch()
    (root / "file").write_text("a text\n")
    (root / "noise").write_bytes(np.random.default_rng(0).bytes(1000))
    write_tree(root / "two cats", classes=("cat", "dog", "cat of mine"), count=6)
    write_tree(root / "one class", classes=("cat",), count=6)
    write_tree(root / "validated only", ("train",), ("cat", "dog"), count=6)
    write_tree(root / "validated only", ("val",), ("lion", "puma"), count=6)
    write_tree(root / "broken", count=6)
    (root / "broken" / "train" / "cat" / "cat_train_0.JPEG").write_bytes(b"no picture")
    (root / "voc" / "cat_val_0.xml").write_text(xml([(10, 10, 50, 30), (0, 0, 20, 40)]))
    (root / "boxes.csv").write_text("image,x0,y0,x1,y1\ncat_val_0.JPEG,10,10,50,30\n")
    (root / "other boxes.csv").write_text("image,x0,y0,x1,y1\nzebra.JPEG,10,10,50,30\n")
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 255
    cv2.imwrite(str(root / "masks" / "cat_val_0.png"), mask)
    (root / "cats.txt").write_text("cat\n\ncat of mine\n")
    (root / "digits.txt").write_text("0\n1\n7\n")
    (root / "tigers.txt").write_text("cat\n0\ntiger\n")
    for name, classes in (("cats", 3), ("other", 4), ("digits", 10)):
        classifier = networks.classifier("small_resnet", 32, classes)
        classifier.save_weights(root / f"{name}.weights.h5")
    data = {"labels": ["0", "1"], "mean": [0.5] * 3, "std": [1.0] * 3, "data": {}}
    run_directory.describe(root / "a run", {"seed": 77}, data)
    classifier.save(root / "a run" / "model.keras")
    datasets.open_dataset("digit_scenes/tiny", str(root / "data"))
