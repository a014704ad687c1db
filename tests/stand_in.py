"""A stand-in for a model server, for the tests: python tests/stand_in.py DIRECTORY NAME

It serves the newest complete version in DIRECTORY/NAME on 127.0.0.1 alone: over gRPC on the stubs
of tensorflow-serving-api, and over REST on the paths that TensorFlow Serving documents. The first
line it prints is {"rest": port, "grpc": port}.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import pathlib
import re
import sys

import casm_tf.host.quiet  # noqa: F401

# isort: split

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

_LARGEST = 1024  # images in a request
_LONGEST = 2**26  # bytes of a request


class RefusedError(Exception):
    """A request that is answered with an error: gRPC's status and the words."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.message = status, message


class Model:
    """The newest version of a directory that can be loaded."""

    def __init__(self, directory, name):
        self.name = name
        versions = [p for p in (pathlib.Path(directory) / name).iterdir() if p.name.isdecimal()]
        for path in sorted(versions, key=lambda p: int(p.name), reverse=True):
            try:
                self._loaded = tf.saved_model.load(str(path))
            except (OSError, tf.errors.OpError, ValueError) as error:
                print(f"passed over {path}: {error}", file=sys.stderr)
                continue
            self.version, self.signatures = int(path.name), self._loaded.signatures
            self.definitions = _definitions(path)
            return
        raise SystemExit(f"{directory}/{name} has no version that can be loaded")

    def check(self, name, version=None):
        if name != self.name or version not in (None, self.version):
            raise RefusedError(
                grpc.StatusCode.NOT_FOUND, f"Servable not found: {name} {version or ''}"
            )

    def predict(self, signature, inputs):
        """{output: array} of {input: array} or of one array for the only input."""
        function = self.signatures.get(signature or "serving_default")
        if function is None:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"no signature {signature!r}")
        specs = function.structured_input_signature[1]
        if not isinstance(inputs, dict):
            inputs = dict.fromkeys(specs, inputs)
        if set(inputs) != set(specs):
            message = f"inputs {sorted(inputs)}; expected {sorted(specs)}"
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, message)
        try:
            tensors = {
                name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()
            }
            count = min(len(tensor) for tensor in tensors.values())
            if not 1 <= count <= _LARGEST:
                message = f"{count} images; expected 1 to {_LARGEST}"
                raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, message)
            return {name: tensor.numpy() for name, tensor in function(**tensors).items()}
        except RefusedError:
            raise
        except Exception as error:  # whatever TensorFlow says of a client's tensors
            message = getattr(error, "message", str(error))
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, message) from error


def _definitions(path):
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    found = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in saved.meta_graphs[0].signature_def.items():
        found.signature_def[name].CopyFrom(definition)
    return found


class Services(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """gRPC."""

    def __init__(self, model):
        self._model = model

    def Predict(self, request, context):  # noqa: N802
        with _answering(context):
            self._check(request)
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            outputs = self._model.predict(request.model_spec.signature_name, inputs)
            response = predict_pb2.PredictResponse()
            for name, array in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
            return response

    def GetModelMetadata(self, request, context):  # noqa: N802
        with _answering(context):
            self._check(request)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.metadata["signature_def"].Pack(self._model.definitions)
            return response

    def GetModelStatus(self, request, context):  # noqa: N802
        with _answering(context):
            self._check(request)
            response = get_model_status_pb2.GetModelStatusResponse()
            response.model_version_status.add(version=self._model.version, state="AVAILABLE")
            return response

    def _check(self, request):
        spec = request.model_spec
        self._model.check(spec.name, spec.version.value if spec.HasField("version") else None)


@contextlib.contextmanager
def _answering(context):
    """Turns what is refused into gRPC's status."""
    try:
        yield
    except RefusedError as error:
        context.abort(error.status, error.message)


class Rest(http.server.BaseHTTPRequestHandler):
    """REST."""

    model = None
    _PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata|:predict)?")

    def do_GET(self):
        self._answer(b"")

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        if length > _LONGEST:
            return self._send(413, {"error": f"{length} bytes; expected at most {_LONGEST}"})
        return self._answer(self.rfile.read(length))

    def _answer(self, body):
        try:
            found = self._PATH.fullmatch(self.path)
            if not found:
                raise RefusedError(grpc.StatusCode.NOT_FOUND, f"no such path: {self.path}")
            name, version, verb = found.groups()
            self.model.check(name, int(version) if version else None)
            if verb == ":predict" and self.command == "POST":
                self._send(200, self._predict(body))
            elif verb == "/metadata":
                definitions = json_format.MessageToDict(
                    self.model.definitions, preserving_proto_field_name=True
                )
                self._send(200, {"metadata": {"signature_def": definitions}})
            else:
                status = {"version": str(self.model.version), "state": "AVAILABLE"}
                self._send(200, {"model_version_status": [status]})
        except RefusedError as error:
            missing = error.status is grpc.StatusCode.NOT_FOUND
            self._send(404 if missing else 400, {"error": error.message})

    def _predict(self, body):
        try:
            request = json.loads(body, object_hook=_from_base64)
            rows, columns = request.get("instances"), request.get("inputs")
            inputs = columns
            if rows and isinstance(rows[0], dict):
                inputs = {key: [row[key] for row in rows] for key in rows[0]}
            elif rows is not None:
                inputs = list(rows)
            signature = str(request.get("signature_name") or "")
        # Whatever JSON there is, it is the client's mistake.
        except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"JSON: {error}") from error
        if (rows is None) == (columns is None):
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "expected 'instances' or 'inputs'")
        outputs = self.model.predict(signature, inputs)
        values = {name: _to_json(array, name) for name, array in outputs.items()}
        if columns is not None:
            return {"outputs": values if len(values) > 1 else next(iter(values.values()))}
        if len(values) == 1:
            return {"predictions": next(iter(values.values()))}
        return {
            "predictions": [
                dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)
            ]
        }

    def _send(self, code, answer):
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def _from_base64(value):
    return base64.b64decode(value["b64"], validate=True) if set(value) == {"b64"} else value


def _to_json(array, name):
    if array.dtype != object:
        return array.tolist()
    if name.endswith("_bytes"):
        return [{"b64": base64.b64encode(value).decode()} for value in array]
    return [value.decode() for value in np.ravel(array)]


def main(directory, name):
    model = Model(directory, name)
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(4),
        options=[("grpc.max_receive_message_length", _LONGEST)],
    )
    services = Services(model)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(services, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(services, server)
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    Rest.model = model
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rest)
    print(json.dumps({"rest": rest.server_port, "grpc": grpc_port}), flush=True)
    rest.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
