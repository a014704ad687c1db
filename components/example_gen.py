"""Make a data set and describe it: python -m components.example_gen --examples=... --dataset=...

Leaves in --examples the file examples.json, the flags by which a training finds the data and their
digest; in --statistics a Split-NAME/FeatureStats.pb for each split and in --schema a schema.pbtxt,
the protos of TensorFlow Metadata, of what is read: pictures, labels, boxes.

The data are made where --data_dir says, and in --examples if it says nothing. They are made once.
"""

import hashlib
import pathlib

from absl import flags

from casm_tf.cli import limits, program

FLAGS = flags.FLAGS

flags.DEFINE_string("dataset", "digit_scenes/full", "As casm_tf.train's.")
flags.DEFINE_string("image_dir", None, "As casm_tf.train's.")
flags.DEFINE_string("boxes", None, "As casm_tf.train's.")
flags.DEFINE_string("masks", None, "As casm_tf.train's.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps data sets; by default in --examples.")
flags.DEFINE_string("examples", None, "For examples.json.", required=True)
flags.DEFINE_string("statistics", None, "For the splits' statistics.", required=True)
flags.DEFINE_string("schema", None, "For the schema.", required=True)
flags.declare_key_flag("max_pixels")
if __name__ == "__main__":
    program.parse()  # before TensorFlow is imported

import casm_tf.host.quiet  # noqa: F401  (before TensorFlow)

# isort: split

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tqdm import tqdm

from casm_tf.data import damage, datasets, fields
from casm_tf.host import files
from components import examples

_SETTINGS = ("dataset", "data_dir", "image_dir", "boxes", "masks")


def main():
    limits.apply()
    examples_dir, statistics_dir, schema_dir = (
        pathlib.Path(FLAGS[name].value) for name in ("examples", "statistics", "schema")
    )
    for name in ("examples", "statistics", "schema"):
        with program.blaming(name):
            files.check_writable(FLAGS[name].value)
    data_dir = FLAGS.data_dir or str(examples_dir / examples.DATA)
    with program.blaming_data():
        dataset = datasets.open_dataset(
            FLAGS.dataset, data_dir, FLAGS.image_dir, FLAGS.boxes, FLAGS.masks
        )

    splits = dataset.builder.info.splits
    for split in splits:
        with program.blaming("data_dir", damage.DamagedFileError), damage.naming_files(dataset):
            statistics = _statistics(dataset, split)
        path = statistics_dir / f"Split-{split}" / "FeatureStats.pb"
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as unfinished:
            unfinished.write_bytes(statistics.SerializeToString())
    schema_dir.mkdir(parents=True, exist_ok=True)
    with files.replacing(schema_dir / "schema.pbtxt") as unfinished:
        unfinished.write_text(text_format.MessageToString(_schema(dataset), as_utf8=True))

    counts = {split: splits[split].num_examples for split in splits}
    settings = {name: FLAGS[name].value for name in _SETTINGS}
    settings |= {name: files.absolute(settings[name]) for name in _SETTINGS[1:]}
    examples.write(examples_dir, settings, counts, _digest(dataset.builder.data_dir))
    print(f"made  {', '.join(f'{count} {split}' for split, count in counts.items())} images")
    given = settings | {"data_dir": data_dir, "run_dir": "runs/mine"}
    given = [f"--{name}={value}" for name, value in given.items() if value is not None]
    print(f"next  {program.command('casm_tf.train', *given)}")


def _digest(directory):
    """Of the examples themselves: the descriptions beside them have the day they were made on."""
    total = hashlib.sha256()
    for path in sorted(pathlib.Path(directory).glob("*.tfrecord*")):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _statistics(dataset, split):
    """A DatasetFeatureStatisticsList of one split."""
    info = dataset.builder.info
    decoders = tfds.decode.PartialDecoding(fields.needed(info.features))
    found = dataset.builder.as_dataset(
        split=split, decoders=decoders, read_config=tfds.ReadConfig(try_autocache=False)
    )
    sizes, boxes, labels = [], [], np.zeros(len(dataset.labels), int)
    total = info.splits[split].num_examples
    looked_at = fields.labelled(dataset, found).map(
        lambda example: (
            tf.shape(example["image"])[:2],
            tf.shape(fields.boxes(dataset, example))[0],
            example["label"],
        ),
        tf.data.AUTOTUNE,
    )
    progress = tqdm(looked_at.as_numpy_iterator(), f"looking at {split}", total, unit="image")
    for size, count, label in progress:
        sizes.append(size.tolist())
        boxes.append(int(count))
        labels[label] += 1

    found = statistics_pb2.DatasetFeatureStatisticsList()
    of_split = found.datasets.add(name=split, num_examples=len(sizes))
    for name, values in {
        "height": [height for height, _ in sizes],
        "width": [width for _, width in sizes],
        "boxes": boxes,
    }.items():
        feature = of_split.features.add(type=statistics_pb2.FeatureNameStatistics.INT)
        feature.path.step.append(name)
        _fill_common(feature.num_stats.common_stats, len(sizes))
        if values:
            feature.num_stats.mean, feature.num_stats.std_dev = np.mean(values), np.std(values)
            feature.num_stats.min, feature.num_stats.max = min(values), max(values)
            feature.num_stats.median = np.median(values)
            feature.num_stats.num_zeros = values.count(0)
    feature = of_split.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    feature.path.step.append("label")
    _fill_common(feature.string_stats.common_stats, len(sizes))
    feature.string_stats.unique = np.count_nonzero(labels)
    for rank, index in enumerate(np.argsort(-labels, kind="stable")):
        name, count = dataset.labels[index], labels[index]
        feature.string_stats.rank_histogram.buckets.add(
            low_rank=rank, high_rank=rank, label=name, sample_count=count
        )
        feature.string_stats.top_values.add(value=name, frequency=count)
    return found


def _fill_common(statistics, count):
    statistics.num_non_missing = statistics.tot_num_values = count
    if count:
        statistics.min_num_values = statistics.max_num_values = statistics.avg_num_values = 1


def _schema(dataset):
    """What every example has: a picture, a label of the classes, boxes in fractions."""
    schema = schema_pb2.Schema()
    image = schema.feature.add(name="image", type=schema_pb2.BYTES)
    image.presence.min_fraction = image.value_count.min = image.value_count.max = 1
    image.image_domain.SetInParent()
    label = schema.feature.add(name="label", type=schema_pb2.INT)
    label.presence.min_fraction = label.value_count.min = label.value_count.max = 1
    label.int_domain.min, label.int_domain.max = 0, len(dataset.labels) - 1
    label.int_domain.is_categorical = True
    label.annotation.tag.extend(dataset.labels)
    box = schema.feature.add(name="bbox", type=schema_pb2.FLOAT)
    box.float_domain.min, box.float_domain.max = 0, 1
    return schema


if __name__ == "__main__":
    program.run(main)
