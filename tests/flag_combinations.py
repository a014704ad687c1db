"""Combinations of casm_tf.train's flags, drawn by a seed, and how each has to end."""

import collections
import random

# {root} is a folder with the files that train_combinations.py makes, {own} a combination's own.
DIGITS, TREE = "digit_scenes/tiny", "{root}/two cats"
HUGE = "99999999999999999999"
NO_COUNT = ("0", "-1", "-" + HUGE, "1.5", "x", "", "nan", "inf")
NO_AMOUNT = ("-1", "-1e300", "1e39", "1e300", "nan", "inf", "-inf", "x", "")
NO_SWITCH = ("maybe", "2", "")
NO_CHOICE = ("none of these", "")

# Looked at after all flags are parsed.
LATE = {"dataset", "image_dir", "boxes", "masks", "classes", "classifier_weights", "batch_size"}
LATE |= {"run_dir", "data_dir", "TF_CONFIG", "thinning", "image_size", "max_pixels", "snapshots"}
LATE |= {"critics", "pretraining_rate", "classifier_rate", "decoder_rate", "steps"}

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
    "start": ("scratch",),
    "shared_encoder": ("true", "false"),
    "decoder_channels": ("4", "1", "64"),
    "upsampling": ("nearest", "bilinear"),
    "aligned": ("false", "true"),
    "smoothing": ("0", "1", "1e-300"),
    "score": ("entropy", "classification"),
    "size": ("adaptive", "l1"),
    "lambda_size": ("3.3", "0", "1e-300"),
    "first_lambda_size": ("0", "3.3"),
    "first_lambda_steps": ("0", "1", "2147483647"),
    "lambda_variation": ("0", "0.5", "1e-300"),
    "masked_in_weight": ("0", "1", "1e-300"),
    "fill": ("mean", "blur", "noise"),
    "levels": ("1", "2", "4"),
    "mask_size": ("0.2", "0.01", "0.99"),
    "classifier_form": ("both", "masked"),
    "masked_steps": ("always", "present"),
    "thinning": ("L1", "L2", "F", "L", "FL", "L100", "L" + HUGE),
    "snapshots": ("2", "1", "30"),
    "past_probability": ("0.5", "0", "1", "1e-300"),
    "batch_size": ("8", "1", "3", "16"),
    "pretraining_steps": ("1",),
    "pretraining_rate": ("3e-3", "0", "1e-300"),
    "epochs": ("12", "1e-6", "1e30"),
    "steps": ("2",),
    "decay": ("steps", "cosine"),
    "classifier_rate": ("1e-3", "0", "1e-300"),
    "decoder_rate": ("1e-3", "0", "1e-300"),
    "decay_every": ("1", "2", HUGE),
    "weight_decay": ("1e-4", "0", "1e-300"),
    "clip_norm": ("10", "1e-6"),
    "strategy": ("auto", "one_device", "mirrored"),
    "synchronized_batch_normalization": ("true", "false"),
    "frozen_normalizations": ("true", "false"),
    "precision": ("float32", "mixed_bfloat16"),
    "deterministic": ("true", "false"),
    "xla": ("false",),
    "snapshot_precision": ("float32", "bfloat16"),
    "checkpoint_every": ("1", "2", HUGE),
    "validate_every": ("1", "2", HUGE),
    "max_pixels": ("1000000", HUGE),
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
    "critics": ("small_resnet:{root}/cats.weights.h5",),
}
DIGITS_GOOD = {
    "targets": ("labels", "predictions"),
    "classes": ("0-1", "0-9", "{root}/digits.txt"),
    "classifier_weights": ("{root}/digits.weights.h5",),
    "critics": ("small_resnet:{root}/digits.weights.h5",),
}
# What has to be refused, whatever the other flags are.
WRONG = {
    "dataset": ("digit_scene", "digit_scenes/huge", "mnist", "a/b/c", "", "."),
    "image_dir": ("{root}/none", "{root}/file", "{root}/nothing", "{root}/voc", "/dev/null", ""),
    "boxes": ("{root}/none", "{root}/file", "{root}/nothing", "{root}/other boxes.csv", ""),
    "masks": ("{root}/none", "{root}/file", "{root}/nothing", "{root}/voc", ""),
    "classes": (
        *("5-10", "3-3", "9-0", "0-", "-1-3", "0-" + HUGE, "a", "0-1,3-4"),
        *("{root}/nothing", "{root}/file", "{root}/empty", "{root}/noise", "{root}/tigers.txt"),
    ),
    "image_size": ("31", "33", "47", "65536", HUGE, *NO_COUNT),
    "run_dir": ("{root}/file", "{root}/file/run", "/dev/null/run", "{root}/a run", "a" * 300),
    "data_dir": ("{root}/file", "{root}/file/data", "/dev/null", "a" * 300),
    "smallest_crop": ("0", "0.0099", "1.0001", "100", *NO_AMOUNT),
    "flip": NO_SWITCH,
    "seed": ("4294967296", HUGE, *NO_COUNT[1:]),
    "classifier": ("resnet", "RESNET50", *NO_CHOICE),
    "classifier_weights": (
        *("{root}/none", "{root}/file", "{root}/empty", "{root}/nothing", "/dev/null"),
        "{root}/noise",
    ),
    "targets": NO_CHOICE,
    "start": ("pretrained", *NO_CHOICE),  # its networks are others
    "shared_encoder": NO_SWITCH,
    "decoder_channels": (HUGE, *NO_COUNT),
    "upsampling": ("bicubic", *NO_CHOICE),
    "aligned": NO_SWITCH,
    "score": ("loss", *NO_CHOICE),
    "size": ("L1", *NO_CHOICE),
    "lambda_size": NO_AMOUNT,
    "smoothing": ("101", *NO_AMOUNT),
    "first_lambda_size": NO_AMOUNT,
    "first_lambda_steps": (HUGE, *NO_COUNT[1:]),
    "lambda_variation": NO_AMOUNT,
    "masked_in_weight": NO_AMOUNT,
    "mask_size": ("0", "1", "0.991", *NO_AMOUNT),
    "fill": ("black", *NO_CHOICE),
    "levels": ("6", HUGE, *NO_COUNT),
    "critics": ("resnet18", "{root}/digits.weights.h5", "resnet18:{root}/none"),
    "classifier_form": NO_CHOICE,
    "masked_steps": NO_CHOICE,
    "thinning": ("L0", "l", "", "LF", "L-1", "L1.5", "L 1", "L1 ", "L٣", "F100", "L1e2", "100"),
    "snapshots": (HUGE, *NO_COUNT),
    "past_probability": ("1.0001", "2", *NO_AMOUNT),
    "batch_size": ("129", HUGE, *NO_COUNT),
    "pretraining_steps": (HUGE, *NO_COUNT),
    "pretraining_rate": NO_AMOUNT,
    "epochs": ("0", *NO_AMOUNT),
    "steps": (HUGE, *NO_COUNT),
    "decay": NO_CHOICE,
    "classifier_rate": NO_AMOUNT,
    "decoder_rate": NO_AMOUNT,
    "decay_every": NO_COUNT,
    "weight_decay": NO_AMOUNT,
    "clip_norm": ("0", "9e-7", *NO_AMOUNT),
    "strategy": ("multi_worker", "gpu", *NO_CHOICE),
    "synchronized_batch_normalization": NO_SWITCH,
    "frozen_normalizations": NO_SWITCH,
    "precision": ("float16", "mixed_float16", *NO_CHOICE),
    "deterministic": NO_SWITCH,
    "xla": NO_SWITCH,
    "snapshot_precision": ("float16", *NO_CHOICE),
    "checkpoint_every": NO_COUNT,
    "validate_every": NO_COUNT,
    "max_pixels": NO_COUNT,
    "lamda_size": ("1",),  # no such flag
    "TF_CONFIG": (
        *("{", "[]", "x", "7", '{"cluster": 3}', '{"cluster": {"worker": 3}}'),
        '{"cluster": {"worker": ["localhost:1"]}}',
        '{"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["localhost:1"]}, "task": {"type": "ps", "index": 0}}',
    ),
}
# What may end either way.
DOUBTFUL = {
    **dict.fromkeys(("pretraining_rate", "classifier_rate", "decoder_rate"), ("1e30", "3e38")),
    **dict.fromkeys(("lambda_size", "lambda_variation", "weight_decay"), ("1e30", "3e38")),
    "clip_norm": ("1e30", "3e38"),
    "run_dir": ("", "."),
    "data_dir": ("",),
    "classes": ("",),
    # Of other classes: all but the head.
    "classifier_weights": ("", "{root}/other.weights.h5", "{root}/a run/model.keras"),
    "image_size": ("34", "36", "96", "65532"),
    "decoder_channels": ("2147483647",),
    "snapshots": ("1000000", "2147483647"),
    "steps": ("2147483647",),
    "pretraining_steps": ("2147483647",),
    "image_dir": ("{root}/validated only", "{root}/one class", "{root}/broken"),
    "max_pixels": ("1", "10000"),
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
    if "classes" in chosen:  # the critics' weights are for all of them
        chosen.pop("critics", None)
    if chosen.get("smoothing") == "1":  # does not fit the coarsest maps
        chosen.pop("levels", None)
    if "mask_size" in chosen:  # lambda_R then moves by itself, from something on
        chosen.pop("first_lambda_steps", None)
        chosen.pop("lambda_size", None)
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
            names = sorted(LATE & set(kind) if random_.random() < 0.6 else kind)
            name = random_.choice(names)
            if name in blamed:
                continue
            chosen[name] = random_.choice(kind[name])
            blamed.add(name)
            if kind is WRONG:
                outcome = "refused"
            elif outcome == "trained":
                outcome = None
    if "dataset" in blamed:  # it and an image_dir do not fit
        blamed.add("image_dir")
    tf_config = chosen.pop("TF_CONFIG", "")
    if seed % 100 == 50:  # it compiles for a minute
        chosen |= {"classifier": "small_resnet", "xla": "true", "precision": "float32"}
    traced = chosen.get("strategy") == "mirrored" or chosen.get("xla") == "true"
    # Deep networks take a minute to trace.
    deep = chosen["classifier"] not in ("small_resnet", "resnet18")
    eager = not traced and (deep or seed % 4 != 0)
    order = random_.sample(sorted(chosen), len(chosen))
    flags = [f"--{name}={chosen[name]}" for name in order]
    return Combination(seed, flags, tf_config, eager, outcome, sorted(blamed))
