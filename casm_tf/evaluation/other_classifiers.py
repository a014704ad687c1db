"""Trained classifiers of any kind, to look at masks with (the paper's Figure 3).

A mask that finds all that *any* classifier could use takes it from classifiers that it was not
trained with, too: their accuracy is to stay on masked-in images and to fall on masked-out ones.
"""

import inspect
import pathlib

import keras
import numpy as np

from casm_tf import networks, objectives
from casm_tf.evaluation.inpainting import inpainted
from casm_tf.evaluation.localization import binarize
from casm_tf.networks import keras_files

_FORMS = "ARCHITECTURE:FILE, keras.applications.NAME:FILE or a .keras file"


def load(text, dataset):
    """A classifier's name and the classifier, a function of images -> predicted classes, int [B].

    The images are float32 [B, H, W, 3], normalised as the data set's. The name is the file's.

    Args:
        text: one of

            ARCHITECTURE:FILE              of `networks.ARCHITECTURES`, with a .weights.h5 file;
            keras.applications.NAME:FILE   such as MobileNetV2, with a .weights.h5 file or one of
                                           Keras's .h5 files; images are given to it as it wants;
            FILE.keras                     a saved model, images -> logits or {"logits", ...}.

        dataset: the `Dataset` whose size, classes, mean and deviation the images have.

    Raises:
        ValueError: the text is none of these, or the file does not fit the architecture, the size
            of the images or the number of classes.
        OSError: the file cannot be read.
    """
    if text.endswith(".keras"):
        return pathlib.Path(text).stem, _function(_saved(text, dataset))
    architecture, colon, file = text.partition(":")
    if not colon:
        raise ValueError(f"expected {_FORMS}; found {text!r}")
    name = pathlib.Path(file).name.removesuffix(".h5").removesuffix(".weights")
    if architecture.startswith("keras.applications."):
        model, preprocess = _application(architecture, dataset)
        networks.load_weights(model, file)
        function = _function(model)

        def classify(images):
            # From our normalised images to the pixels that every application begins with.
            pixels = (images * dataset.std + dataset.mean) * 255
            return function(preprocess(pixels.astype(np.float32)))

        return name, classify
    if architecture not in networks.ARCHITECTURES:
        known = ", ".join(networks.ARCHITECTURES)
        raise ValueError(f"expected {_FORMS}, with an architecture of {known}; found {text!r}")
    model = networks.classifier(architecture, dataset.image_size, len(dataset.labels))
    networks.load_weights(model, file)
    return name, _function(model)


def load_all(texts, dataset):
    """{name: classifier} as `load` gives them; where two have one name, the names are the texts."""
    loaded = [load(text, dataset) for text in texts]
    names = [name for name, _ in loaded]
    if len(set(names)) < len(names):
        names = texts
    return dict(zip(names, (classifier for _, classifier in loaded), strict=True))


def views(images, masks, dataset):
    """What the classifiers see: {view: normalised images, float32 [B, H, W, 3]}.

    `clean` is the image x; `masked_in` is m x and `masked_out` is (1 - m) x with the soft mask m;
    `inpainted` is the image with the binary mask's pixels filled from round them. As what is half
    taken away cannot be filled, the mask is made binary as for its box, by `localization.binarize`;
    it is `inpainted`, as the paper's Figure 2 shows it, and nothing of what was in the
    holes is left.

    `images` are normalised as the data set's, `masks` float [B, H, W] in [0, 1].
    """
    pictures = [
        inpainted(picture, binarize(mask))
        for picture, mask in zip(dataset.denormalise(images), masks, strict=True)
    ]
    return {
        "clean": images,
        "masked_in": objectives.masked_in(images, masks[..., None]),
        "masked_out": objectives.masked_out(images, masks[..., None]),
        "inpainted": dataset.normalise(np.stack(pictures)).numpy(),
    }


def accumulate(classifiers, accuracies, images, labels, masks, dataset):
    """Take a batch into each classifier's `evaluation.Accuracy`, for each of `views`.

    `classifiers` and `accuracies` are dicts with the same names; `labels` are integers [B], the
    rest is as for `views`. What `compute()` gives then are top1, top1_masked_in, top1_masked_out
    and top1_inpainted.
    """
    seen = views(images, masks, dataset)
    for name, classify in classifiers.items():
        accuracies[name].accumulate(labels, **{view: classify(x) for view, x in seen.items()})


def _function(model):
    """Images -> predicted classes; a model that gives its maps too does not hand them over."""
    model = keras.Model(model.input, _logits(model))
    return lambda images: model.predict_on_batch(images).argmax(-1)


def _logits(model):
    """A model's symbolic logits, or None."""
    return model.output.get("logits") if isinstance(model.output, dict) else model.output


def _saved(path, dataset):
    """The model of a .keras file, if it is one for images and classes like the data set's."""
    model = keras_files.load_keras(path)
    shape = list(getattr(getattr(model, "input", None), "shape", ()))[1:]
    size = dataset.image_size
    if len(shape) != 3 or any(
        found not in (None, expected)
        for found, expected in zip(shape, (size, size, 3), strict=True)
    ):
        raise ValueError(f"{path} is for inputs {shape}; the images are {[size, size, 3]}")
    if len(getattr(_logits(model), "shape", ())) != 2:
        raise ValueError(f"{path} does not give logits, [batch, classes]")
    classes = _logits(model).shape[1]
    if classes != len(dataset.labels):
        raise ValueError(f"{path} is for {classes} classes; the data set has {len(dataset.labels)}")
    return model


def _application(text, dataset):
    """An application of Keras's without weights, and its function from pixels to its input."""
    name = text.removeprefix("keras.applications.")
    module = next(
        (
            module
            for _, module in inspect.getmembers(keras.applications, inspect.ismodule)
            if hasattr(module, "preprocess_input") and name in dir(module)
        ),
        None,
    )
    make = getattr(module, name, None)
    if not inspect.isfunction(make) or not name[0].isupper():
        raise ValueError(f"there is no {text}")
    if name.startswith("EfficientNetB"):
        # Only with weights="imagenet", which downloads them, has Keras the rescaling that the
        # published weights need.
        raise ValueError(f"{text} differs from its published weights: give it as a .keras file")
    size = dataset.image_size
    try:
        model = make(
            weights=None,
            input_shape=(size, size, 3),
            classes=len(dataset.labels),
            classifier_activation=None,
        )
    except ValueError as error:
        raise ValueError(f"{text} cannot be made for images of {size} pixels: {error}") from error
    return model, module.preprocess_input
