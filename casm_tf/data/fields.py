"""What an example of a data set holds, whatever the data set calls it: label, boxes, mask."""

import pathlib

import numpy as np
import tensorflow as tf
from absl import logging

from casm_tf.data import annotations

# What data sets call a mask, or a list of one or none.
_MASKS = ("mask", "masks", "segmentation_mask")


def needed(features, masks=False):
    """Which of a data set's features are read, with the masks or without: {name: True}."""
    names = {"image", "label", "bbox", "objects", file_name(features)}
    names = (names | set(_MASKS if masks else ())) & set(features)
    parts = {"label", "bbox"}
    if "objects" in names:
        parts &= set(features["objects"].feature)
    return {name: dict.fromkeys(parts, True) if name == "objects" else True for name in names}


def labelled(dataset, examples):
    """The examples whose class is in the data set, each with its `label` there, int32.

    Where objects are labelled and pictures are not (VOC) a picture's label is that of its largest
    box; the boxes of that label become its `bbox`. A picture without an object is left out.
    """
    names = label_feature(dataset.builder.info.features).names
    classes = range(len(names)) if dataset.classes is None else dataset.classes
    numbers = np.full(len(names), -1, np.int32)
    numbers[list(classes)] = range(len(classes))

    def label(example):
        if "label" not in example:
            boxes, labels = example["objects"]["bbox"], example["objects"]["label"]
            areas = tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=1)
            largest = labels[tf.argmax(areas)]
            example = {**example, "label": largest, "bbox": boxes[labels == largest]}
        # -1 is no label, of pictures that have none.
        found = tf.gather(numbers, tf.maximum(example["label"], 0))
        return {**example, "label": tf.where(example["label"] < 0, -1, found)}

    if "label" not in dataset.builder.info.features:
        examples = examples.filter(lambda example: tf.size(example["objects"]["label"]) > 0)
    examples = examples.map(label, tf.data.AUTOTUNE)
    if dataset.classes is not None:
        examples = examples.filter(lambda example: example["label"] >= 0)
    return examples


def boxes(dataset, example):
    """The boxes of an example of `labelled`: float32 [N, 4], ymin, xmin, ymax, xmax in [0, 1]."""
    if dataset.xml is not None:

        def read(name, label, shape):
            path = dataset.xml.get(stem(name.decode()))
            found = np.zeros((0, 4))
            try:
                if path is not None:
                    size = tuple(shape[1::-1].tolist())
                    found, _ = annotations.clipped(
                        annotations.read_xml(path, dataset.labels[label], size)
                    )
            except (ValueError, OSError) as error:
                logging.warning("a picture's boxes are left out: %s", error)
            return found[:, [1, 0, 3, 2]].astype(np.float32)

        name = example[file_name(dataset.builder.info.features)]
        arguments = (name, example["label"], tf.shape(example["image"]))
        return tf.ensure_shape(tf.numpy_function(read, arguments, tf.float32), (None, 4))
    if "bbox" in example:
        return tf.reshape(example["bbox"], (-1, 4))
    if "bbox" in example.get("objects", {}):
        return example["objects"]["bbox"]
    return tf.zeros((0, 4))


def mask(dataset, example):
    """The mask of an example, bool [H, W], and whether it has one, a bool tensor; None without any.

    Salient is what is at least 128. Oxford's pets have 1, 2 and 3 instead: all but 2, the
    background, is salient, also the border.
    """
    name = next((name for name in _MASKS if name in example), None)
    if name is None:
        return None, None
    masks, there = example[name], tf.constant(True)
    found = masks
    if masks.shape.rank == 4:  # a list of one or none
        there = tf.shape(masks)[0] > 0
        empty = tf.zeros((*tf.unstack(tf.shape(example["image"])[:2]), 1), tf.uint8)
        found = tf.cond(there, lambda: masks[0], lambda: empty)
    if dataset.builder.name == "oxford_iiit_pet":
        return found[..., 0] != 2, there
    return found[..., 0] >= 128, there


def label_feature(features):
    """The feature that holds the classes' names, or None."""
    if "label" in features:
        return features["label"]
    if "objects" in features and "label" in features["objects"].feature:
        return features["objects"].feature["label"]
    return None


def file_name(features):
    """The name of the feature that holds a picture's file name, where there is one."""
    return "image/filename" if "image/filename" in features else "file_name"


def stem(path):
    """The name by which boxes are joined to a picture."""
    return annotations.normal(pathlib.PurePosixPath(path).stem)
