"""The client against servers that are no mask model's, or that fail."""

import base64
import http.server
import io
import json
import struct
import threading
import zlib

import numpy as np
import programs
import pytest
import trees
from PIL import Image

from casm_tf.serving import client


class Other(http.server.BaseHTTPRequestHandler):
    """A server whose metadata are a mask model's and whose predictions are not."""

    answer, missing, size = {}, 0, 32

    def do_GET(self):
        shape = {"dim": [{"size": str(size)} for size in (-1, self.size, self.size, 3)]}
        signatures = {
            "serving_default": {"inputs": {"images": {"tensor_shape": shape}}},
            "mask_png_bytes": {},
        }
        self._send({"metadata": {"signature_def": {"signature_def": signatures}}}, 0)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send(self.answer, self.missing)

    def _send(self, answer, missing):
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def other():
    """The address of `Other`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/models/casm"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "answer, missing, message",
    [
        ([], 0, "no answer of a mask model"),
        ({"outputs": {}}, 0, "no answer of a mask model"),
        ({"predictions": [{}]}, 0, "no answer of a mask model"),
        ({"predictions": []}, 0, "no answer of a mask model"),
        ({}, 50, "does not answer"),
    ],
)
def test_an_answer_that_is_no_mask_models_is_the_servers_error(
    answer, missing, message, other, monkeypatch
):
    monkeypatch.setattr(Other, "answer", answer)
    monkeypatch.setattr(Other, "missing", missing)
    model = client.open_server(other)
    with pytest.raises(client.ServerError, match=message):
        model.predict(np.zeros((1, 32, 32, 3), np.uint8))


def test_a_server_that_fails_in_the_middle_is_one_line_with_the_pictures(other, tmp_path):
    for name in "ab":
        trees.write(tmp_path / "in" / f"{name}.png")
    done = programs.call(
        "casm_tf.extract", f"--model={other}", "in", "--batch_size=1", cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("extract: --model: ")
    assert last.endswith("not made: in/a.png and the 1 after it")


@pytest.mark.parametrize("host", ["127.0.0.1:port", "127.0.0.1:1 "])
def test_a_host_that_is_none_is_an_error_of_the_address(host):
    with pytest.raises(client.ServerError, match="does not answer"):
        client.open_server(f"http://{host}/v1/models/casm")


def _row(**changes):
    png = io.BytesIO()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(png, "PNG")
    row = {"box": [0, 0, 1, 1], "probabilities": [1.0], "label": "cat"}
    return row | {"mask_png_bytes": {"b64": base64.b64encode(png.getvalue()).decode()}} | changes


def _large_png():
    """A few bytes that say they are a picture of 50,000 x 50,000 pixels."""
    png = bytearray(base64.b64decode(_row()["mask_png_bytes"]["b64"]))
    png[16:24] = struct.pack(">II", 50_000, 50_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return {"b64": base64.b64encode(png).decode()}


@pytest.mark.parametrize(
    "row",
    [
        {"mask_png_bytes": _large_png()},
        {"box": [0, 0, 1, float("nan")]},
        {"box": [0, 0, 1e9, 1]},
        {"box": [0, 0, 1]},
        {"probabilities": ["a"]},
        {"probabilities": []},
        {"label": None},
    ],
)
def test_rows_that_no_mask_model_gives_are_the_servers_error(row, other, monkeypatch):
    model, images = client.open_server(other), np.zeros((1, 32, 32, 3), np.uint8)
    monkeypatch.setattr(Other, "answer", {"predictions": [_row()]})
    assert model.predict(images)["label"] == ["cat"]
    monkeypatch.setattr(Other, "answer", {"predictions": [_row(**row)]})
    with pytest.raises(client.ServerError, match="no answer of a mask model"):
        model.predict(images)


def test_an_answer_without_end_is_refused(other, monkeypatch):
    model = client.open_server(other)
    monkeypatch.setattr(client, "_LARGEST_ANSWER", 1000)
    monkeypatch.setattr(Other, "answer", {"predictions": [_row()], "more": "a" * 1000})
    with pytest.raises(client.ServerError, match="more than 1000 bytes"):
        model.predict(np.zeros((1, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("size", [0, 10**9])
def test_a_server_that_wants_pictures_of_no_possible_size_is_refused(size, other, monkeypatch):
    monkeypatch.setattr(Other, "size", size)
    with pytest.raises(ValueError, match="no mask model"):
        client.open_server(other)
