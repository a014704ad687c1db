"""Whether an exported mask model can be served: python serving_check.py MODEL PICTURES.npz

components.infra_validator runs it as a file in a process of its own. It loads the model as
TensorFlow Serving does, by the SavedModel loader into a session, and calls the signatures by the
names of their tensors. The last line is a JSON object: by how much masks of "pixels" and of
"pictures" differ from those in PICTURES.npz at most, and how many "warmup" requests were answered.
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# What a server does not have either.
sys.modules["keras"] = sys.modules["casm_tf"] = None

import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402


def main(path, pictures):
    arrays = np.load(pictures)
    pngs = [arrays[f"png{number}"].tobytes() for number in range(len(arrays["pixels"]))]
    with tf.Session(graph=tf.Graph()) as session:
        signatures = tf.saved_model.loader.load(session, ["serve"], path).signature_def

        def call(name, **inputs):
            signature = signatures[name]
            outputs = {key: tensor.name for key, tensor in signature.outputs.items()}
            fed = {signature.inputs[key].name: value for key, value in inputs.items()}
            return session.run(outputs, fed)

        answered = 0
        for name, inputs in _warmup(pathlib.Path(path)):
            call(name, **inputs)
            answered += 1
        by_pixels = call("serving_default", images=arrays["pixels"].astype(np.float32))["mask"]
        by_pictures = call("image_bytes", image_bytes=np.array(pngs, object))["mask"]
    print(
        json.dumps(
            {
                "pixels": float(np.abs(by_pixels - arrays["masks"]).max()),
                "pictures": float(np.abs(by_pictures - arrays["masks"]).max()),
                "warmup": answered,
            }
        )
    )


def _warmup(path):
    """(signature, inputs) of each request to warm up with."""
    records = path / "assets.extra" / "tf_serving_warmup_requests"
    if not records.exists():
        return
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.io.tf_record_iterator(str(records)):
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


if __name__ == "__main__":
    main(*sys.argv[1:])
