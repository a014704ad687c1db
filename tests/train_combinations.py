"""Train with combinations of flags, each as `python -m casm_tf.train` would, in a fork of its own.

python train_combinations.py ROOT takes a JSON list of `Combination`s as its input, and prints a
line of JSON for each, as they end. TensorFlow is imported once and runs no op before the forks:
importing takes as long as two steps of training.
"""

import json
import os
import pathlib
import re
import resource
import runpy
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings

import casm_tf.host.quiet  # noqa: F401

# isort: split

import cv2
import keras
import matplotlib.pyplot  # noqa: F401  (a fork would import it, and so would the next)
import numpy as np
import tensorboard.compat.proto  # noqa: F401
import tensorflow as tf
from flag_combinations import Combination
from trees import write_tree, xml

from casm_tf import networks
from casm_tf.data import input_pipeline
from casm_tf.training import pretraining, run_directory  # noqa: F401

_SECONDS = 240  # a combination; XLA takes one
_AT_ONCE = 2
_BYTES = 12 * 2**30  # of addresses: what asks for more memory is to fail, not to fill the machine


def _in_fork(function, folder):
    """Start a fork that calls the function, in a folder of its own; the process's id."""
    folder.mkdir(parents=True)
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            with pathlib.Path(name).open("wb") as file:
                os.dup2(file.fileno(), number)
        resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
        signal.alarm(_SECONDS)
        code = function()
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # as the interpreter ends: a checkpoint may be on its way
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _train(flags, tf_config, eager):
    """What `python -m casm_tf.train` would do; the exit code. Then the model is looked at."""
    if tf_config:
        os.environ["TF_CONFIG"] = tf_config
    if eager:
        tf.config.run_functions_eagerly(True)
        warnings.filterwarnings("ignore", "Even though the `tf.config.experimental_run_functions")
    run_dir = next(flag.split("=", 1)[1] for flag in flags if flag.startswith("--run_dir="))
    if any(re.fullmatch(r"--(pretraining_)?steps=\d{4,}", flag) for flag in flags):
        threading.Thread(target=_stop_soon, args=(run_dir,), daemon=True).start()
    sys.argv = ["", *flags]
    try:
        runpy.run_module("casm_tf.train", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            return end.code
    pathlib.Path("looked at").write_text(_look_at(pathlib.Path(run_dir) / "model.keras"))
    return 0


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


def _result(combination, folder, status, usage, seconds):
    run_dir = next(f.split("=", 1)[1] for f in combination.flags if f.startswith("--run_dir="))
    looked_at = folder / "looked at"
    return {
        **combination._asdict(),
        "code": os.waitstatus_to_exitcode(status),
        "stdout": (folder / "stdout").read_text(errors="replace"),
        "stderr": (folder / "stderr").read_text(errors="replace"),
        "model": looked_at.read_text() if looked_at.exists() else None,
        "unfinished": [str(path) for path in (folder / run_dir).rglob(".unfinished*")],
        "seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
    }


def _main(root, combinations):
    root.mkdir(parents=True)
    os.environ["HOME"] = str(root / "home")
    process = _in_fork(lambda: _make_files(root), root / "making")
    if os.waitpid(process, 0)[1]:
        raise SystemExit((root / "making" / "stderr").read_text())
    waiting, running = combinations[::-1], {}
    while waiting or running:
        while waiting and len(running) < _AT_ONCE:
            combination = waiting.pop()
            own = root / f"combination {combination.seed}"
            flags = [
                flag.replace("{root}", str(root)).replace("{own}", str(own))
                for flag in combination.flags
            ]
            combination = combination._replace(flags=flags)
            arguments = (flags, combination.tf_config, combination.eager)
            process = _in_fork(lambda arguments=arguments: _train(*arguments), own)
            running[process] = combination, own, time.monotonic()
        process, status, usage = os.wait3(0)
        combination, own, since = running.pop(process)
        seconds = time.monotonic() - since
        print(json.dumps(_result(combination, own, status, usage, seconds)), flush=True)
        shutil.rmtree(own)


def _make_files(root):
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
    run_directory.describe(root / "a run", {"seed": 77}, ("0", "1"))
    classifier.save(root / "a run" / "model.keras")
    input_pipeline.open_dataset("digit_scenes/tiny", str(root / "data"))
    return 0


if __name__ == "__main__":
    _main(pathlib.Path(sys.argv[1]), [Combination(*one) for one in json.load(sys.stdin)])
