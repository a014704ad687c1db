"""Do masks know where they are? python -m benchmarks.place --run_dir=runs/demo

A run's masks of pictures, of their mirror images and of the pictures upside down, the last two
turned back. A mask that follows what is seen is the same each time; where all three lie off the
boxes on one side, the decoder has learned a place. Of each the mean mask's centre of mass, in
pixels from the first one's middle, right (x) and down (y); `difference` is the mean of the absolute
difference from the pictures' mean mask.

`drawn_off` is how far right and down masks are drawn, whatever the pictures show: half of what the
centres of mass differ by. The last line is {"images": ..., "drawn_off": {"x": ..., "y": ...},
"pictures": {"x": ..., "y": ..., "difference": 0.0}, "mirrored": ..., "upside_down": ...}, and of
data with boxes "boxes": {"x": ..., "y": ...}, of each pixel how many images have a box there.
"""

import json

import casm_tf.host.quiet  # noqa: F401

# isort: split

from absl import flags
from tqdm import tqdm

from benchmarks.mirror_images import VIEWS, measured
from casm_tf.cli import program
from casm_tf.data import input_pipeline
from casm_tf.networks import keras_files
from casm_tf.training import run_directory

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "A run of casm_tf.train that is finished.", required=True)
flags.DEFINE_string("data_dir", None, "Where the data set is, if not where the run had it.")
flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "What is looked at.")
flags.DEFINE_integer("batch_size", 128, "Images a forward pass.", lower_bound=1)


def main():
    with program.blaming("run_dir"):
        model = keras_files.load_keras(run_directory.model_of(FLAGS.run_dir))
    with program.blaming("data_dir", OSError), program.blaming("run_dir", ValueError):
        dataset = run_directory.dataset_of(FLAGS.run_dir, FLAGS.data_dir)
    split = dataset.split(FLAGS.split)
    batches = input_pipeline.evaluation_batches(dataset, split, FLAGS.batch_size)
    batches = tqdm(batches, desc=f"looking at {split}", unit="batch")
    results = measured(lambda images: model.predict_on_batch(images)["mask"], batches)

    print(f"\n{'masks of':14}{'x':>8}{'y':>8}{'difference':>12}")
    for name in (*VIEWS, "boxes"):
        if name in results:
            row = results[name]
            last = f"{row['difference']:12.4f}" if name in VIEWS else ""
            print(f"{name:14}{row['x']:8.2f}{row['y']:8.2f}{last}")
    print(f"{'drawn off by':14}{results['drawn_off']['x']:8.2f}{results['drawn_off']['y']:8.2f}")
    print(json.dumps(results))


if __name__ == "__main__":
    program.run(main)
