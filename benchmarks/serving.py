"""What a served mask costs: python -m benchmarks.serving

ResNet-50 at 224 with casm_tf.train's decoder (random weights), exported and loaded again, against
a forward pass of the classifier alone, logits and nothing else, in the same process. Each round
takes all of them by turns; medians count. (a) `serving_default` on pixels and (b) `image_bytes` on
JPEGs of 500x375, decoded in the graph, over the bare classifier, at each batch size. (c) The
SavedModel's bytes over the weights'. (d) Seconds from the start of a fresh process to the first
mask of the small model of configs/casm.flags, with TensorFlow alone. (e) Masks per second and p50
and p99 of a request of `image_bytes` through the tests' stand-in server, over gRPC, one client.

The last line is {"mask_over_classifier": x, "image_bytes_over_classifier": x, "batch_1": {the same
two}, "saved_model_over_weights": x, "seconds_to_first_mask": x, "server": {batch size: {...}}}; the
first two are of --batch_size.
"""

import io
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import casm_tf.host.quiet  # noqa: F401

# isort: split

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from PIL import Image
from skimage import data
from tqdm import tqdm

from casm_tf import networks
from casm_tf.cli import program
from casm_tf.serving import export

FLAGS = flags.FLAGS

flags.DEFINE_integer("batch_size", 16, "Images a call, beside 1.", lower_bound=2)
flags.DEFINE_integer("rounds", 7, "After one that does not count.", lower_bound=1)
flags.DEFINE_integer("requests", 30, "To the server, of each batch size.", lower_bound=2)

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FIRST_MASK = """
import pathlib, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
picture = tf.constant([pathlib.Path(sys.argv[2]).read_bytes()])
print(model.signatures["image_bytes"](image_bytes=picture)["mask"].numpy().mean())
"""


def main():
    jpegs = _jpegs(FLAGS.batch_size)
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        classifier, model = _model("resnet50", 224, 1000, 64, "nearest")
        path = _export(model, directory / "casm", 1000)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        size /= sum(np.prod(v.shape) * np.dtype(v.dtype).itemsize for v in model.variables)
        print(f"the SavedModel is {size:.3f} times the weights", flush=True)
        ratios = {
            count: _ratios(classifier, path, jpegs[:count]) for count in (1, FLAGS.batch_size)
        }
        first_mask = _seconds_to_first_mask(directory, jpegs[0])
        print(f"the small model's first mask after {first_mask:.1f} s", flush=True)
        server = _through_the_server(directory, jpegs)
    print(
        json.dumps(
            {
                **ratios[FLAGS.batch_size],
                "batch_1": ratios[1],
                "saved_model_over_weights": size,
                "seconds_to_first_mask": first_mask,
                "server": server,
            }
        )
    )


def _jpegs(count):
    """Parts of a photograph as files, 500x375."""
    picture = Image.fromarray(data.astronaut()).resize((700, 700))
    files = []
    for number in range(count):
        encoded = io.BytesIO()
        left, top = 10 * number % 200, 17 * number % 300
        picture.crop((left, top, left + 500, top + 375)).save(encoded, "JPEG", quality=90)
        files.append(encoded.getvalue())
    return files


def _model(architecture, image_size, classes, channels, upsampling):
    """(the classifier, images -> mask and logits), untrained."""
    keras.utils.set_random_seed(0)
    classifier = networks.classifier(architecture, image_size, classes)
    decoder = networks.decoder(networks.map_shapes(classifier), image_size, channels, upsampling)
    outputs = classifier.output
    model = keras.Model(
        classifier.input, {"mask": decoder(outputs["maps"]), "logits": outputs["logits"]}
    )
    return classifier, model


def _export(model, directory, classes):
    return export.export_model(model, directory, [str(n) for n in range(classes)], _MEAN, _STD)


def _ratios(classifier, path, jpegs):
    """The two signatures' times over the bare classifier's, for one batch size."""
    loaded = tf.saved_model.load(str(path))
    images = np.random.default_rng(0).uniform(0, 255, (len(jpegs), 224, 224, 3))
    images = tf.constant(images, tf.float32)
    normalised = (images / 255 - _MEAN) / _STD
    bare = tf.function(lambda x: classifier(x, training=False)["logits"])
    calls = {
        "bare": lambda: bare(normalised),
        "mask": lambda: loaded.signatures["serving_default"](images=images),
        "image_bytes": lambda: loaded.signatures["image_bytes"](image_bytes=tf.constant(jpegs)),
    }
    seconds = {name: [] for name in calls}
    for number in tqdm(range(FLAGS.rounds + 1), desc=f"batch {len(jpegs)}", unit="round"):
        for name, call in calls.items():
            started = time.perf_counter()
            tf.nest.map_structure(lambda tensor: tensor.numpy(), call())
            if number:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(
        f"batch {len(jpegs)}, ms an image: "
        + ", ".join(f"{name} {1000 * m / len(jpegs):.1f}" for name, m in medians.items()),
        flush=True,
    )
    return {
        "mask_over_classifier": medians["mask"] / medians["bare"],
        "image_bytes_over_classifier": medians["image_bytes"] / medians["bare"],
    }


def _seconds_to_first_mask(directory, jpeg):
    _, model = _model("small_resnet", 64, 10, 32, "bilinear")
    path = _export(model, directory / "small", 10)
    picture = directory / "picture.jpg"
    picture.write_bytes(jpeg)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", _FIRST_MASK, str(path), str(picture)],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - started


def _through_the_server(directory, jpegs):
    """{batch size: {"masks_per_second", "p50_ms", "p99_ms"}}; None without the server's package."""
    try:
        import grpc
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    except ImportError:
        print("without tensorflow-serving-api: the server is left out")
        return None
    stand_in = pathlib.Path(__file__).parent.parent / "tests" / "stand_in.py"
    server = subprocess.Popen(
        [sys.executable, str(stand_in), str(directory), "casm"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        port = json.loads(server.stdout.readline())["grpc"]
        channel = grpc.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]
        )
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        found = {}
        for count in (1, len(jpegs)):
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = "casm", "image_bytes"
            request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(jpegs[:count]))
            seconds = []
            for _ in tqdm(range(FLAGS.requests + 1), desc=f"server, {count}", unit="request"):
                started = time.perf_counter()
                service.Predict(request, timeout=300)
                seconds.append(time.perf_counter() - started)
            seconds = seconds[1:]
            found[count] = {
                "masks_per_second": count * len(seconds) / sum(seconds),
                "p50_ms": 1000 * float(np.percentile(seconds, 50)),
                "p99_ms": 1000 * float(np.percentile(seconds, 99)),
            }
            print(f"server, batch {count}: {found[count]}", flush=True)
        return found
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    program.run(main)
