"""Masks from a server that has an exported model, over REST or gRPC.

Each kind has an `image_size` and predict(images) for uint8 [B, S, S, 3], B > 0, giving "mask"
float32 [B, S, S, 1], "box" [B, 4], "probabilities" [B, K] and "label" [B], as docs/serving.md
tells. A server is sent PNGs and asked for `mask_png_bytes`: its masks come in 256 steps, which is
what is written of them anyway, and far shorter than as JSON's numbers.
"""

import base64
import contextlib
import http.client
import io
import json
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
from PIL import Image

from casm_tf.serving.masks import OUTPUTS

_SIGNATURE = "mask_png_bytes"
# A server is not to fill the memory: for what it may want, and what it may send.
_LARGEST_SIZE = 2**12  # pixels a side
_LARGEST_ANSWER = 2**26  # bytes; a hundred thousand a picture are usual
_SECONDS = 60  # a server has for an answer


class ServerError(Exception):
    """A server that cannot be reached or refuses: its address and its own words."""


def open_server(address):
    """The model of a server's address, of the kinds that `MaskModel.load` tells of.

    Raises ValueError where there is no mask model, ServerError where a server does not answer,
    ImportError without the package for gRPC.
    """
    is_grpc = urllib.parse.urlsplit(address).scheme == "grpc"
    return (GrpcModel if is_grpc else RestModel)(address)


class RestModel:
    """A model of a REST server, by TensorFlow Serving's paths."""

    def __init__(self, address):
        self._address = address.rstrip("/")
        if not urllib.parse.urlsplit(self._address).path.startswith("/v1/models/"):
            raise ValueError(f"expected http://HOST:PORT/v1/models/NAME; found {address}")
        try:
            signatures = self._ask("/metadata")["metadata"]["signature_def"]["signature_def"]
            sizes = signatures["serving_default"]["inputs"]["images"]["tensor_shape"]["dim"]
            self.image_size = _checked_size(int(sizes[1]["size"]))
            signatures[_SIGNATURE]
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"{address} is no mask model of components.pusher") from error

    def predict(self, images):
        rows = [{"image_bytes": {"b64": base64.b64encode(_png(i)).decode()}} for i in images]
        request = {"signature_name": _SIGNATURE, "instances": rows}
        answer = self._ask(":predict", json.dumps(request).encode())
        with _expecting_masks(self._address):
            predictions = answer["predictions"]
            masks = [base64.b64decode(row["mask_png_bytes"]["b64"]) for row in predictions]
            rows = {name: [row[name] for row in predictions] for name in OUTPUTS[1:]}
            return _checked(rows, masks, images)

    def _ask(self, path, data=None):
        try:
            with urllib.request.urlopen(self._address + path, data, timeout=_SECONDS) as answer:
                body = answer.read(_LARGEST_ANSWER + 1)
                if len(body) > _LARGEST_ANSWER:
                    raise ServerError(f"{self._address} answers more than {_LARGEST_ANSWER} bytes")
                if answer.length:  # of which read() with a limit says nothing
                    raise http.client.IncompleteRead(body, answer.length)
            return json.loads(body)
        except urllib.error.HTTPError as error:
            raise ServerError(
                f"{self._address}: {error.code}: {_reason(error.read(_LARGEST_ANSWER))}"
            ) from error
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ServerError(f"{self._address} does not answer: {reason}") from error


class GrpcModel:
    """A model of a gRPC server, by TensorFlow Serving's services."""

    def __init__(self, address):
        import grpc
        from tensorflow_serving.apis import (
            get_model_metadata_pb2,
            predict_pb2,
            prediction_service_pb2_grpc,
        )

        parts = urllib.parse.urlsplit(address)
        self._address, self._name = address, parts.path.strip("/")
        if not parts.netloc or not self._name or "/" in self._name:
            raise ValueError(f"expected grpc://HOST:PORT/NAME; found {address}")
        self._error, self._request = grpc.RpcError, predict_pb2.PredictRequest
        channel = grpc.insecure_channel(
            parts.netloc, options=[("grpc.max_receive_message_length", _LARGEST_ANSWER)]
        )
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = self._name
        request.metadata_field.append("signature_def")
        found = get_model_metadata_pb2.SignatureDefMap()
        self._ask(self._service.GetModelMetadata, request).metadata["signature_def"].Unpack(found)
        inputs = found.signature_def["serving_default"].inputs
        if _SIGNATURE not in found.signature_def or "images" not in inputs:
            raise ValueError(f"{address} is no mask model of components.pusher")
        try:
            self.image_size = _checked_size(inputs["images"].tensor_shape.dim[1].size)
        except (IndexError, ValueError) as error:
            raise ValueError(f"{address} is no mask model of components.pusher") from error

    def predict(self, images):
        import tensorflow as tf

        request = self._request()
        request.model_spec.name = self._name
        request.model_spec.signature_name = _SIGNATURE
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([_png(i) for i in images]))
        outputs = self._ask(self._service.Predict, request).outputs
        with _expecting_masks(self._address):
            found = {name: tf.make_ndarray(tensor) for name, tensor in outputs.items()}
            rows = {**found, "label": [label.decode() for label in found["label"]]}
            return _checked(rows, found["mask_png_bytes"], images)

    def _ask(self, method, request):
        try:
            return method(request, timeout=_SECONDS)
        except self._error as error:
            raise ServerError(f"{self._address}: {error.code().name}: {error.details()}") from error


def _reason(body):
    """What a server's answer says: TensorFlow Serving's {"error": ...}, or its beginning."""
    try:
        return json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return body[:200].decode(errors="replace")


def _png(image):
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG", compress_level=1)
    return data.getvalue()


@contextlib.contextmanager
def _expecting_masks(address):
    try:
        yield
    except Exception as error:  # What is no mask model's answer can break at any place.
        raise ServerError(f"{address} gave no answer of a mask model for each picture") from error


def _checked_size(size):
    if not 0 < size <= _LARGEST_SIZE:
        raise ValueError(f"a size of {size}")
    return size


def _checked(rows, pngs, images):
    """What a model's predict gives, of a server's rows and its masks as grey PNGs, one an image.

    Raises ValueError, or anything else, for what does not fit the images.
    """
    count, *size = images.shape[:3]
    box, probabilities = (np.array(rows[name], np.float32) for name in OUTPUTS[1:3])
    labels = rows["label"]
    shares = np.concatenate([box, probabilities], axis=1)
    if not len(pngs) == len(box) == len(labels) == count or box.shape[1] != 4:
        raise ValueError(f"{len(pngs)} masks, {len(box)} boxes of {count} images")
    if not probabilities.size or not all(isinstance(label, str) for label in labels):
        raise ValueError("pictures without a class")
    if not (shares.min() >= -1e-4 and shares.max() <= 1 + 1e-4):
        raise ValueError("a box or a probability outside of 0 to 1")
    return {
        "mask": np.stack([_mask(png, size) for png in pngs])[..., None] / 255,
        "box": box,
        "probabilities": probabilities,
        "label": labels,
    }


def _mask(png, size):
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        if (image.mode, [image.height, image.width]) != ("L", size):
            raise ValueError(f"a mask of mode {image.mode} and size {image.size}")
        return np.asarray(image, np.float32)
