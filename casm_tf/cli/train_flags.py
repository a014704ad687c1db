"""The flags of casm_tf.train: every choice of the paper, the data, the machine."""

from absl import flags

from casm_tf import choices

# What --help shows them under, and the first flag of each.
GROUPS = {
    "start here": "dataset",
    "data": "boxes",
    "networks": "classifier",
    "objectives": "score",
    "thinning": "thinning",
    "optimization": "batch_size",
    "machine": "strategy",
}
_LARGEST = 2**31 - 1  # of what counts or is a shape
_LARGEST_FLOAT = (2 - 2**-23) * 2.0**127  # float32's

flags.DEFINE_string(
    "dataset",
    "digit_scenes/full",
    "digit_scenes or letter_scenes, /full or /tiny, made on the spot; image_folder; or a name of "
    "TFDS's.",
)
flags.DEFINE_string(
    "image_dir",
    None,
    "Of --dataset=image_folder: train/<class>/<picture> and the same with val/, or "
    "<class>/<picture>.",
)
flags.DEFINE_string("run_dir", None, "The run's directory; a run that is there already is resumed.")
flags.DEFINE_enum(
    "start",
    "scratch",
    ["scratch", "pretrained"],
    "Whether classifier and decoder start from the mask model for photographs that comes with the "
    "package (configs/finetune.flags).",
)
flags.DEFINE_enum(
    "targets",
    "labels",
    ["labels", "predictions"],
    "What an image's class is: its label, or what the classifier, as it was before the "
    "alternation, predicts on that very view. Predictions need no labels: with "
    "--dataset=image_folder any folder of pictures will do.",
)

flags.DEFINE_string(
    "boxes", None, "A folder of ILSVRC or VOC XML files, or a CSV: image,x0,y0,x1,y1 in pixels."
)
flags.DEFINE_string("masks", None, "Of --dataset=image_folder: a folder of PNGs.")
flags.DEFINE_string(
    "classes", None, "Only these: a range such as 0-499, or a file with a name in each line."
)
flags.DEFINE_integer(
    "image_size",
    None,
    "What is seen of a picture, in pixels a side; by default the data set's own size, or 224 where "
    "it has pictures of any size.",
    lower_bound=32,
    upper_bound=65_535,  # a JPEG's largest
)
flags.DEFINE_string(
    "data_dir", None, "Where TFDS keeps data sets; by default in the home directory."
)
flags.DEFINE_float(
    "smallest_crop",
    1.0,
    "Training takes a random part of each image at the image's size, at least this share of its "
    "area (0.08 is usual for ImageNet); 1 takes whole images.",
    lower_bound=0.01,
    upper_bound=1,
)
flags.DEFINE_boolean("flip", False, "Whether training mirrors every second image.")
flags.DEFINE_integer(
    "seed",
    0,
    "Of the initial weights, the data's order and every draw.",
    lower_bound=0,
    upper_bound=2**32 - 1,  # NumPy's largest
)
flags.DEFINE_enum("classifier", "resnet50", choices.ARCHITECTURES, "The classifier's architecture.")
flags.DEFINE_string(
    "classifier_weights",
    None,
    "A .weights.h5 file of a trained classifier, or imagenet for those that come with Keras; "
    "without any it is pretrained. Of weights for other classes all but the head are taken.",
)
flags.DEFINE_list(
    "critics",
    [],
    "Further classifiers for the same classes, ARCHITECTURE:FILE.weights.h5,... They never move; "
    "each is the critic as often as --classifier, present and past.",
)
flags.DEFINE_boolean(
    "shared_encoder",
    True,
    "Whether the decoder reads the classifier's maps (the paper's SHR) or those of a copy "
    "that is trained with it.",
)
flags.DEFINE_integer(
    "levels",
    None,
    "How many of the classifier's maps the decoder reads, the coarsest first; all by default, 2 in "
    "the follow-up (Phang, Park and Geras, 2020).",
    lower_bound=1,
    upper_bound=5,
)
flags.DEFINE_integer(
    "decoder_channels",
    64,
    "What the decoder reduces a map to.",
    lower_bound=1,
    upper_bound=_LARGEST,
)
flags.DEFINE_enum(
    "upsampling", "nearest", ["nearest", "bilinear"], "Of the decoder's map to the image."
)
flags.DEFINE_boolean(
    "aligned",
    False,
    "Whether the decoder reads each map where its cells look; the paper resizes it as an image.",
)
flags.DEFINE_float(
    "smoothing",
    0.0,
    "The deviation of a Gaussian over the mask's logits, in cells of the decoder's map; 0 for none "
    "(the paper). With 2 the masks of photographs are whole, and soft at their edges.",
    lower_bound=0,
    upper_bound=100,
)

flags.DEFINE_enum(
    "score",
    "entropy",
    choices.OBJECTIVES["score"],
    "What the decoder maximises on the masked image: the prediction's entropy (E) or the "
    "classification loss (C).",
)
flags.DEFINE_enum(
    "size",
    "adaptive",
    choices.OBJECTIVES["size"],
    "The size term: relu(c - mean m) where the mask hides the object (the original), or "
    "minus the L1 norm of eq. (7).",
)
flags.DEFINE_float(
    "lambda_size",
    None,
    "lambda_R, the size term's weight; by default the original's for the score and the "
    "thinning, times ln K / ln 1000.",
    lower_bound=0,
)
flags.DEFINE_float(
    "mask_size",
    None,
    "How much of a picture masks are to cover, as the mean of m: lambda_R then moves until they "
    "do, from --lambda_size on.",
    lower_bound=0.01,
    upper_bound=0.99,
)
flags.DEFINE_float(
    "first_lambda_size",
    0.0,
    "Another lambda_R, for the first --first_lambda_steps: what keeps a trained mask small may be "
    "more than one that is not yet trained survives.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "first_lambda_steps", 0, "See --first_lambda_size.", lower_bound=0, upper_bound=_LARGEST
)
flags.DEFINE_float("lambda_variation", 0.0, "The total variation's weight.", lower_bound=0)
flags.DEFINE_float(
    "masked_in_weight", 0.0, "Of the critic's loss on what masks keep; 0: the paper.", lower_bound=0
)
flags.DEFINE_enum(
    "fill",
    "mean",
    choices.OBJECTIVES["fill"],
    "What is seen where the mask hides a picture: the mean colour (the paper), a blurred copy, "
    "noise of the picture's own mean and deviation, or another picture.",
)
flags.DEFINE_enum(
    "classifier_form",
    "both",
    choices.OBJECTIVES["classifier_form"],
    "The classifier's loss: on the masked and the clean images, eq. (8), or on the masked "
    "alone, eq. (3).",
)
flags.DEFINE_enum(
    "masked_steps",
    "always",
    choices.OBJECTIVES["masked_steps"],
    "When the classifier learns from masked images: at every step (the paper) or where it is "
    "itself the critic (the original).",
)

flags.DEFINE_string(
    "thinning",
    "L100",
    "F (the classifier is fixed: the baseline), L, FL, or L<n>: every n-th step's classifier "
    "is kept.",
)
flags.DEFINE_integer(
    "snapshots", 30, "How many past ones are kept at most.", lower_bound=1, upper_bound=_LARGEST
)
flags.DEFINE_float(
    "past_probability",
    0.5,
    "Of a kept classifier being the critic, rather than the present one.",
    lower_bound=0,
    upper_bound=1,
)

flags.DEFINE_integer("batch_size", 128, "Images a step, over all replicas.", lower_bound=1)
flags.DEFINE_integer(
    "pretraining_steps",
    3000,
    "Of the classifier on clean images, when no weights are given; where only its head is new, the "
    "head alone is trained, for at most 300.",
    lower_bound=1,
    upper_bound=_LARGEST,
)
flags.DEFINE_float(
    "pretraining_rate", 3e-3, "AdamW's first rate; it falls linearly to 0.", lower_bound=0
)
flags.DEFINE_float(
    "epochs",
    12.0,
    "Passes over the training images; the original's 60 are of a fifth.",
    lower_bound=1e-6,
)
flags.DEFINE_integer(
    "steps", None, "Of the alternation, instead of --epochs.", lower_bound=1, upper_bound=_LARGEST
)
flags.DEFINE_float("classifier_rate", 1e-3, "SGD's learning rate, momentum 0.9.", lower_bound=0)
flags.DEFINE_float("decoder_rate", 1e-3, "Adam's learning rate.", lower_bound=0)
flags.DEFINE_enum(
    "decay",
    "steps",
    ["steps", "cosine"],
    "How both rates fall: / 10 every --decay_every steps, or as half a cosine's wave, to 0 at the "
    "last step.",
)
flags.DEFINE_integer(
    "decay_every", None, "Of --decay=steps; by default a third of the steps.", lower_bound=1
)
flags.DEFINE_float(
    "weight_decay", 1e-4, "L2, added to the gradients of the alternation.", lower_bound=0
)
flags.DEFINE_float(
    "clip_norm", 10.0, "The largest norm of the decoder's gradient.", lower_bound=1e-6
)

flags.DEFINE_enum(
    "strategy",
    "auto",
    choices.STRATEGIES,
    "How the step is distributed: over the GPUs of this machine (mirrored), or over the machines "
    "that TF_CONFIG names (multi_worker); auto takes what there is.",
)
flags.DEFINE_boolean(
    "synchronized_batch_normalization",
    False,
    "Whether BatchNorm takes means and variances over the images of all replicas, as one device "
    "would, instead of each replica's.",
)
flags.DEFINE_boolean(
    "frozen_normalizations",
    False,
    "Whether the classifier's BatchNorm stays as it was at first: for pictures of few kinds.",
)
flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_bfloat16"], "What the networks compute in."
)
flags.DEFINE_boolean(
    "deterministic", False, "The same bits from the same seed on the same machine; slower on GPUs."
)
flags.DEFINE_boolean(
    "xla",
    False,
    "Compile the steps with XLA: for accelerators. On CPUs slower, one device and float32 only.",
)
flags.DEFINE_enum(
    "snapshot_precision", "float32", ["float32", "bfloat16"], "What the snapshots are held in."
)
flags.DEFINE_integer("checkpoint_every", 400, "Steps between checkpoints.", lower_bound=1)
flags.DEFINE_integer(
    "validate_every", 400, "Steps between looks at the validation split.", lower_bound=1
)

# NaN and infinity are within every bound.
for _flag in flags.FLAGS.flags_by_module_dict()[__name__]:
    if _flag.flag_type() == "float":
        flags.register_validator(
            _flag.name,
            lambda x: x is None or x <= _LARGEST_FLOAT,
            f"expected a finite number, at most {_LARGEST_FLOAT:.2g}",
        )
