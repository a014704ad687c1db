"""Combinations of casm_tf.train's flags: drawn by a seed, and each run to its end in a fork.

`draw` needs nothing but the seed. Run as a program (test_flag_combinations.py does) it imports
TensorFlow once, without any op, and forks for each combination: importing takes as long as two
steps of training. In three of four forks TensorFlow runs functions eagerly, which is three times
as fast as tracing them; with XLA none.
"""

import collections
import json
import os
import pathlib
import random
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

# {root} is the folder that `_make_files` fills, {own} is a combination's own.
DIGITS, TREE = "digit_scenes/tiny", "{root}/two cats"
HUGE = "99999999999999999999"
NO_COUNT = ("0", "-1", "-" + HUGE, "1.5", "x", "", "nan", "inf")
NO_AMOUNT = ("-1", "-1e300", "nan", "inf", "-inf", "x", "")
NO_SWITCH = ("maybe", "2", "")
NO_CHOICE = ("none of these", "")
WORKER = '"task": {"type": "worker", "index": 0}'

# What has to be accepted, whatever the other flags are; the first is taken more often.
GOOD = {
    "dataset": (DIGITS,),  # or the tree: `draw`
    "run_dir": ("{own}/run", "{own}/a run", "{own}/folder/실행", "./-run", "run\nin two lines"),
    "data_dir": ("{root}/data", "{root}/data", "{own}/data of its own", "data"),
    "image_size": ("32", "32", "64"),
    "smallest_crop": ("1", "0.08", "0.01", "0.999999"),
    "flip": ("true", "false"),
    "seed": ("0", "1", "2147483647", "2147483648", "4294967295"),
    "classifier": ("small_resnet",) * 40
    + ("resnet18", "resnet18", "resnet34", "resnet50", "resnet101", "keras_resnet50"),
    "shared_encoder": ("true", "false"),
    "decoder_channels": ("4", "1", "64"),
    "upsampling": ("nearest", "bilinear"),
    "score": ("entropy", "classification"),
    "size": ("adaptive", "l1"),
    "lambda_size": ("3.3", "0", "1e-300"),
    "lambda_variation": ("0", "0.5", "1e-300"),
    "classifier_form": ("both", "masked"),
    "masked_steps": ("always", "present"),
    "thinning": ("L1", "L2", "F", "L", "FL", "L100", "L" + HUGE),
    "snapshots": ("2", "1", "30"),
    "past_probability": ("0.5", "0", "1", "1e-300"),
    "overwrite": ("random", "oldest"),
    "batch_size": ("8", "1", "3", "16"),
    "pretraining_steps": ("1",),
    "pretraining_rate": ("3e-3", "0", "1e-300"),
    "steps": ("2",),
    "classifier_rate": ("1e-3", "0", "1e-300"),
    "decoder_rate": ("1e-3", "0", "1e-300"),
    "decay_every": ("1", "2", HUGE),
    "weight_decay": ("1e-4", "0", "1e-300"),
    "clip_norm": ("10", "1e-6"),
    "strategy": ("auto", "one_device", "mirrored"),
    "synchronized_batch_normalization": ("true", "false"),
    "precision": ("float32", "mixed_bfloat16"),
    "deterministic": ("true", "false"),
    "xla": ("false",) * 30 + ("true",),
    "snapshots_on": ("accelerator", "host"),
    "snapshot_precision": ("float32", "bfloat16"),
    "refused_in_a_row": ("10", "1", HUGE),
    "checkpoint_every": ("1", "2", HUGE),
    "validate_every": ("1", "2", HUGE),
    "max_pixels": ("10000", HUGE),
    "max_xml_bytes": ("10000", HUGE),
    "TF_CONFIG": ("", "{}", '{"environment": "cloud"}', '{"cluster": {"worker": []}}'),
}
ALWAYS = {"dataset", "run_dir", "data_dir", "classifier", "decoder_channels", "batch_size"}
ALWAYS |= {"pretraining_steps", "steps"}
# Of --dataset=image_folder, and of digit_scenes.
TREE_GOOD = {
    "boxes": ("{root}/voc", "{root}/boxes.csv"),
    "masks": ("{root}/masks",),
    "classes": ("0-1", "1-2", "{root}/cats.txt"),
    "classifier_weights": ("{root}/cats.weights.h5",),
}
DIGITS_GOOD = {
    "classes": ("0-1", "0-9", "{root}/digits.txt"),
    "classifier_weights": ("{root}/a run/classifier.weights.h5",),
}
# What has to be refused, whatever the other flags are.
WRONG = {
    "dataset": ("digit_scene", "digit_scenes/huge", "mnist", "a/b/c", "", "."),
    "image_dir": ("{root}/none", "{root}/file", "{root}/nothing", "{root}/voc", "/dev/null", ""),
    "boxes": ("{root}/none", "{root}/file", "{root}/nothing", "{root}/other boxes.csv", ""),
    "masks": ("{root}/none", "{root}/file", "{root}/nothing", "{root}/voc", ""),
    "classes": (
        "5-10",
        "3-3",
        "9-0",
        "0-",
        "-1-3",
        "0-" + HUGE,
        "a",
        "0-1,3-4",
        "{root}/nothing",
        "{root}/file",
        "{root}/empty",
        "{root}/noise",
        "{root}/tigers.txt",
    ),
    "image_size": ("31", "33", "40", "47", *NO_COUNT),
    "run_dir": ("{root}/file", "{root}/file/run", "/dev/null/run", "{root}/a run", "a" * 300),
    "data_dir": ("{root}/file", "{root}/file/data", "/dev/null", "a" * 300),
    "smallest_crop": ("0", "0.0099", "1.0001", "100", *NO_AMOUNT),
    "flip": NO_SWITCH,
    "seed": ("4294967296", HUGE, *NO_COUNT[1:]),
    "classifier": ("resnet", "RESNET50", *NO_CHOICE),
    "classifier_weights": (
        "{root}/none",
        "{root}/file",
        "{root}/empty",
        "{root}/nothing",
        "{root}/other.weights.h5",
        "{root}/noise",
        "{root}/a run/model.keras",
        "/dev/null",
    ),
    "shared_encoder": NO_SWITCH,
    "decoder_channels": NO_COUNT,
    "upsampling": ("bicubic", *NO_CHOICE),
    "score": ("loss", *NO_CHOICE),
    "size": ("L1", *NO_CHOICE),
    "lambda_size": NO_AMOUNT,
    "lambda_variation": NO_AMOUNT,
    "classifier_form": NO_CHOICE,
    "masked_steps": NO_CHOICE,
    "thinning": ("L0", "l", "", "LF", "L-1", "L1.5", "L 1", "L1 ", "L٣", "F100", "L1e2", "100"),
    "snapshots": NO_COUNT,
    "past_probability": ("1.0001", "2", *NO_AMOUNT),
    "overwrite": NO_CHOICE,
    "batch_size": ("129", HUGE, *NO_COUNT),
    "pretraining_steps": NO_COUNT,
    "pretraining_rate": NO_AMOUNT,
    "steps": NO_COUNT,
    "classifier_rate": NO_AMOUNT,
    "decoder_rate": NO_AMOUNT,
    "decay_every": NO_COUNT,
    "weight_decay": NO_AMOUNT,
    "clip_norm": ("0", "9e-7", *NO_AMOUNT),
    "strategy": ("multi_worker", "gpu", *NO_CHOICE),
    "synchronized_batch_normalization": NO_SWITCH,
    "precision": ("float16", "mixed_float16", *NO_CHOICE),
    "deterministic": NO_SWITCH,
    "xla": NO_SWITCH,
    "snapshots_on": ("gpu", *NO_CHOICE),
    "snapshot_precision": ("float16", *NO_CHOICE),
    "refused_in_a_row": NO_COUNT,
    "checkpoint_every": NO_COUNT,
    "validate_every": NO_COUNT,
    "max_pixels": NO_COUNT,
    "max_xml_bytes": NO_COUNT,
    "lamda_size": ("1",),  # no such flag
    "TF_CONFIG": (
        "{",
        "[]",
        "x",
        "7",
        '{"cluster": 3}',
        '{"cluster": {"worker": 3}}',
        '{"cluster": {"worker": ["localhost:1"]}}',
        '{"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["localhost:1"]}, "task": {"type": "ps", "index": 0}}',
    ),
}
# What may end either way.
DOUBTFUL = {
    **dict.fromkeys(("pretraining_rate", "classifier_rate", "decoder_rate"), ("1e30", "1e300")),
    **dict.fromkeys(("lambda_size", "lambda_variation", "weight_decay"), ("1e30", "1e300")),
    "clip_norm": ("1e30", "1e300"),
    "run_dir": ("", "."),
    "data_dir": ("",),
    "classes": ("",),
    "classifier_weights": ("",),
    "image_size": ("48", "96", "1000000", "2147483648", HUGE),
    "decoder_channels": ("2147483648", HUGE),
    "snapshots": ("1000000", "2147483648", HUGE),
    "steps": ("2147483648", HUGE),
    "pretraining_steps": ("2147483648", HUGE),
    "image_dir": ("{root}/validated only", "{root}/one class", "{root}/broken"),
    "max_pixels": ("1", "100"),
    "max_xml_bytes": ("1",),
}

Combination = collections.namedtuple(
    "Combination", "seed flags tf_config eager outcome blamed", module=__name__
)


def draw(seed):
    """The `Combination` of a seed.

    `outcome` is "trained", "refused" or None where it may be either; `blamed` are the flags of
    which a refusal has to name one.
    """
    random_ = random.Random(seed)
    on_tree = random_.random() < 0.4
    table = GOOD | (TREE_GOOD if on_tree else DIGITS_GOOD)
    share = random_.choice((0.1, 0.4, 0.7))
    chosen = {
        name: values[0] if random_.random() < 0.3 else random_.choice(values)
        for name, values in table.items()
        if name in ALWAYS or random_.random() < (0.2 if name.startswith("class") else share)
    }
    if on_tree:
        chosen |= {"dataset": "image_folder", "image_dir": TREE}
        chosen.setdefault("image_size", "32")
    if "classes" in chosen or chosen["classifier"] != "small_resnet":
        chosen.pop("classifier_weights", None)  # they are of a small_resnet and all classes
    if chosen["classifier"] != "small_resnet":
        chosen["snapshots"] = "1"  # of resnet101 thirty are 5 GB
    outcome, blamed = "trained", set()
    if chosen.get("classifier_form") == "masked" and chosen.get("masked_steps") == "present":
        outcome, blamed = "refused", {"classifier_form"}
    if random_.random() < 0.33:
        for _ in range(random_.choice((1, 1, 2, 3))):
            kind = random_.choice((WRONG, WRONG, DOUBTFUL))
            name = random_.choice(sorted(kind))
            if name in blamed:
                continue
            chosen[name] = random_.choice(kind[name])
            blamed.add(name)
            if kind is WRONG:
                outcome = "refused"
            elif outcome == "trained":
                outcome = None
    tf_config = chosen.pop("TF_CONFIG", "")
    # Deep networks take a minute to trace.
    deep = chosen["classifier"] not in ("small_resnet", "resnet18")
    eager = (deep or seed % 4 != 0) and chosen.get("xla") != "true"
    order = random_.sample(sorted(chosen), len(chosen))
    flags = [f"--{name}={chosen[name]}" for name in order]
    return Combination(seed, flags, tf_config, eager, outcome, sorted(blamed))


# === The program: python flag_combinations.py ROOT WORKERS SEED... ===

_SECONDS = 240  # a combination; XLA takes one
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
        with pathlib.Path("stdout").open("wb") as out, pathlib.Path("stderr").open("wb") as err:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
        signal.alarm(_SECONDS)
        code = function()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _train(flags, tf_config, eager):
    """What `python -m casm_tf.train` would do; the exit code. Then the model is looked at."""
    import tensorflow as tf

    if tf_config:
        os.environ["TF_CONFIG"] = tf_config
    if eager:
        tf.config.run_functions_eagerly(True)
        warnings.filterwarnings("ignore", "Even though the `tf.config.experimental_run_functions")
    run_dir = next(flag.split("=", 1)[1] for flag in flags if flag.startswith("--run_dir="))
    if any(re.fullmatch(r"--(pretraining_)?steps=\d{4,}", flag) for flag in flags):
        threading.Thread(target=_stop_after_a_checkpoint, args=(run_dir,), daemon=True).start()
    sys.argv = ["", *flags]
    try:
        runpy.run_module("casm_tf.train", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            return end.code
    pathlib.Path("looked at").write_text(_look_at(pathlib.Path(run_dir) / "model.keras"))
    return 0


def _stop_after_a_checkpoint(run_dir):
    while not list(pathlib.Path(run_dir).rglob("ckpt-[12]")):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)


def _look_at(path):
    """What is wrong with a model's masks, or nothing."""
    import keras
    import numpy as np

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


def _main(root, workers, seeds):
    import keras.src.saving.saving_lib  # noqa: F401  (what a fork would import is imported here)
    import matplotlib.pyplot  # noqa: F401
    import tensorboard.compat.proto  # noqa: F401

    import casm_tf.baselines  # noqa: F401
    from casm_tf import casm, figures, pretraining, run_directory, strategies  # noqa: F401
    from casm_tf.data import input_pipeline  # noqa: F401

    root.mkdir(parents=True)
    os.environ["HOME"] = str(root / "home")
    process = _in_fork(lambda: _make_files(root), root / "making")
    if os.waitpid(process, 0)[1]:
        raise SystemExit((root / "making" / "stderr").read_text())
    waiting, running = [draw(seed) for seed in seeds][::-1], {}
    while waiting or running:
        while waiting and len(running) < workers:
            combination = waiting.pop()
            own = root / f"combination {combination.seed}"
            flags = [
                f.replace("{root}", str(root)).replace("{own}", str(own)) for f in combination.flags
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
    """What the tables name below {root}, a run too."""
    import cv2
    import numpy as np
    from trees import write_tree, xml

    from casm_tf import networks

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
    networks.classifier("small_resnet", 32, 3).save_weights(root / "cats.weights.h5")
    networks.classifier("small_resnet", 32, 4).save_weights(root / "other.weights.h5")
    made = {"dataset": DIGITS, "data_dir": root / "data", "run_dir": root / "a run", "seed": 77}
    made |= {"classifier": "small_resnet", "decoder_channels": 4, "batch_size": 16}
    made |= {"pretraining_steps": 1, "steps": 2}
    return _train([f"--{name}={value}" for name, value in made.items()], "", eager=True)


if __name__ == "__main__":
    import casm_tf.quiet  # noqa: F401

    _main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), list(map(int, sys.argv[3:])))
