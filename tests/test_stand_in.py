"""Masks from a server: the program against the stand-in over REST and gRPC, and what is refused."""

import base64
import json
import time
import urllib.error
import urllib.request

import exports
import numpy as np
import programs
import pytest
import trees
from PIL import Image

pytest.importorskip("tensorflow_serving")

import stand_in

GOOD = trees.encoded(trees.picture(0, 40, 60))


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """A directory with version 1 of casm; 2 has been copied by half, 3 has a broken graph."""
    directory = tmp_path_factory.mktemp("serving")
    exports.export_tiny(directory / "casm")
    (directory / "casm" / "2" / "variables").mkdir(parents=True)
    (directory / "casm" / "3").mkdir()
    (directory / "casm" / "3" / "saved_model.pb").write_bytes(b"half a graph")
    return directory


@pytest.fixture(scope="module")
def server(serving):
    """The stand-in as a process: its number, and its ports {"rest": port, "grpc": port}."""
    said, errors = serving / "said.txt", serving / "errors.txt"
    process = programs.start(stand_in.main, serving, "casm", stdout=said, stderr=errors)
    while not said.exists() or "\n" not in said.read_text():
        assert process.poll() is None, errors.read_text()
        time.sleep(0.01)
    yield process.pid, json.loads(said.read_text())
    process.kill()
    process.wait()


@pytest.fixture
def ports(server):
    return server[1]


def test_the_stand_in_listens_on_this_machine_only(server):
    psutil = pytest.importorskip("psutil")
    pid, ports = server
    # gRPC's is a socket of IPv6 at an address of IPv4.
    listening = {
        (c.laddr.ip.removeprefix("::ffff:"), c.laddr.port)
        for c in psutil.Process(pid).net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", port) for port in ports.values()}


def ask(ports, path, request=None):
    """(status, the answer's JSON) of a REST request, a dict or bytes."""
    data = json.dumps(request).encode() if isinstance(request, dict) else request
    address = f"http://127.0.0.1:{ports['rest']}{path}"
    try:
        with urllib.request.urlopen(address, data, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def extract(model, *arguments, cwd):
    return programs.call("casm_tf.extract", f"--model={model}", *arguments, cwd=cwd)


def test_the_program_gives_the_same_from_a_directory_and_from_a_server(serving, ports, tmp_path):
    for number in range(3):
        trees.write(tmp_path / "in" / f"{number}.png", trees.picture(number, 40 + number, 60))
    models = {
        "local": serving / "casm" / "1",
        "rest": f"http://127.0.0.1:{ports['rest']}/v1/models/casm",
        "version": f"http://127.0.0.1:{ports['rest']}/v1/models/casm/versions/1",
        "grpc": f"grpc://127.0.0.1:{ports['grpc']}/casm",
    }
    found = {}
    for name, model in models.items():
        output = tmp_path / name
        done = extract(model, "in", "--batch_size=2", f"--output={output}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(lines) == 3
        found[name] = [
            (
                [line[key] for key in ("file", "box", "label")],
                pytest.approx(line["probability"], abs=1e-5),
                np.asarray(Image.open(line["mask"])).tolist(),
            )
            for line in lines
        ]
    for name in ("rest", "version", "grpc"):
        assert found[name] == found["local"]


def test_rows_and_columns_of_rest(ports):
    path = "/v1/models/casm:predict"
    request = {"signature_name": "image_bytes", "instances": [{"image_bytes": b64(GOOD)}] * 2}
    status, rows = ask(ports, path, request)
    assert status == 200
    assert set(rows["predictions"][0]) == {"mask", "box", "probabilities", "label"}
    # One input: its name can be left out.
    request = {"signature_name": "image_bytes", "instances": [b64(GOOD)] * 2}
    assert ask(ports, path, request) == (200, rows)
    request = {"signature_name": "image_bytes", "inputs": {"image_bytes": [b64(GOOD)] * 2}}
    status, columns = ask(ports, path, request)
    assert status == 200
    masks = [row["mask"] for row in rows["predictions"]]
    assert columns["outputs"]["mask"] == masks
    assert np.shape(masks) == (2, 32, 32, 1)
    pixels = np.zeros((1, 32, 32, 3)).tolist()
    status, answer = ask(ports, path, {"instances": pixels})
    assert status == 200 and len(answer["predictions"][0]["box"]) == 4


def test_status_and_metadata(ports):
    _, status = ask(ports, "/v1/models/casm")
    assert status["model_version_status"][0]["version"] == "1"  # not the broken ones after it
    _, metadata = ask(ports, "/v1/models/casm/metadata")
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "image_bytes", "mask_png_bytes"} <= set(signatures)


@pytest.mark.parametrize(
    "images, message",
    [
        ([GOOD[:-300]], "Invalid JPEG data"),
        ([trees.encoded(trees.picture(), "GIF")], "expected the bytes of a JPEG or PNG file"),
        ([b""], "expected the bytes of a JPEG or PNG file"),
        ([GOOD, b"", GOOD], "expected the bytes of a JPEG or PNG file"),
        ([], "0 images; expected 1 to 1024"),
        ([GOOD] * 10_000, "10000 images; expected 1 to 1024"),
    ],
    ids=["cut JPEG", "GIF", "empty", "one of three", "no image", "10,000 images"],
)
@pytest.mark.parametrize("signature", ["image_bytes", "mask_png_bytes"])
def test_what_cannot_be_answered_is_refused_and_the_server_goes_on(
    signature, images, message, ports
):
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    def rest(images):
        request = {"signature_name": signature, "inputs": {"image_bytes": list(map(b64, images))}}
        return ask(ports, "/v1/models/casm:predict", request)

    channel = grpc.insecure_channel(f"127.0.0.1:{ports['grpc']}")
    service = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def predict(images):
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "casm", signature
        tensor = tf.make_tensor_proto(images, tf.string, (len(images),))
        request.inputs["image_bytes"].CopyFrom(tensor)
        return service.Predict(request, timeout=60)

    status, answer = rest(images)
    assert status == 400
    assert message in answer["error"]
    assert rest([GOOD])[0] == 200
    with pytest.raises(grpc.RpcError) as error:
        predict(images)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.value.details()
    assert tf.make_ndarray(predict([GOOD]).outputs["box"]).shape == (1, 4)


@pytest.mark.parametrize(
    "path, request_, status, message",
    [
        ("/v1/models/other:predict", {"instances": [1]}, 404, "Servable not found: other"),
        ("/v1/models/casm/versions/2", None, 404, "Servable not found: casm 2"),
        ("/v1/nothing", None, 404, "no such path"),
        ("/v1/models/casm:predict", b"{", 400, "JSON: "),
        ("/v1/models/casm:predict", b"[]", 400, "JSON: "),
        ("/v1/models/casm:predict", {"instances": 7}, 400, "JSON: "),
        ("/v1/models/casm:predict", {"instances": [{"a": 1}, 2]}, 400, "JSON: "),
        ("/v1/models/casm:predict", {"inputs": {"b64": 3}}, 400, "JSON: "),
        ("/v1/models/casm:predict", {"instances": [1], "signature_name": []}, 400, ""),
        ("/v1/models/casm:predict", b"[" * 100_000, 400, "JSON: "),
        ("/v1/models/casm:predict", {"instances": [1], "signature_name": "x"}, 400, "no signature"),
        ("/v1/models/casm:predict", {"inputs": {"x": [1]}}, 400, "inputs ['x']; expected"),
        ("/v1/models/casm:predict", {}, 400, "expected 'instances' or 'inputs'"),
    ],
)
def test_wrong_requests_are_refused(path, request_, status, message, ports):
    found, answer = ask(ports, path, request_)
    assert found == status
    assert message in answer["error"]


@pytest.mark.parametrize(
    "model, message",
    [
        ("http://127.0.0.1:{rest}/v1/models/other", "404: Servable not found: other"),
        ("grpc://127.0.0.1:{grpc}/other", "NOT_FOUND: Servable not found: other"),
        ("http://127.0.0.1:{rest}", "expected http://HOST:PORT/v1/models/NAME"),
        ("grpc://127.0.0.1:{grpc}", "expected grpc://HOST:PORT/NAME"),
        ("http://127.0.0.1:1/v1/models/casm", "does not answer"),
        ("grpc://127.0.0.1:1/casm", "UNAVAILABLE"),
    ],
)
def test_the_programs_mistakes_are_one_line(model, message, ports, tmp_path):
    trees.write(tmp_path / "a.png", trees.picture())
    done = extract(model.format(**ports), "a.png", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("extract: --model: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "masks").exists()
