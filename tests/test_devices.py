"""What a program says of its devices."""

import os
import sys

import pytest
from programs import run

from casm_tf.training import devices

# As TensorFlow 2.21 writes it at its start, where there is no driver.
SAID = """WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795919279.442357   27563 port.cc:153] oneDNN custom operations are on.
I0000 00:00:1795919279.442659   27563 cudart_stub.cc:31] Could not find cuda drivers on your \
machine, GPU will not be used.
To enable the following instructions: AVX2, rebuild TensorFlow with the appropriate flags.
I0000 00:00:1795919280.935315   27563 cudart_stub.cc:31] Could not find cuda drivers on your \
machine, GPU will not be used.
E0000 00:00:1795919278.222183   27310 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA \
error: Failed call to cuInit: UNKNOWN ERROR (303)
"""
WHY = (
    "Could not find cuda drivers on your machine, GPU will not be used.; failed call to cuInit: "
    "INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)"
)


@pytest.mark.parametrize(
    ("visible", "path", "said", "expected"),
    [
        (None, "", SAID, None),
        ("0", "", SAID, f"CUDA_VISIBLE_DEVICES=0: {WHY}"),
        (
            "0",
            "",
            "",
            "CUDA_VISIBLE_DEVICES=0: TF_CPP_MIN_LOG_LEVEL=0 in the environment shows why",
        ),
        (None, "nvidia-smi", SAID, f"nvidia-smi: {WHY}"),
        ("", "nvidia-smi", SAID, None),
        ("-1", "nvidia-smi", SAID, None),
    ],
)
def test_a_gpu_that_is_not_used_is_told_with_the_reason(
    visible, path, said, expected, monkeypatch, tmp_path
):
    monkeypatch.setattr(devices.host, "cores", lambda: 3)
    monkeypatch.setattr(devices.shutil, "which", lambda _: path and str(tmp_path / path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    line = devices.described("float32", said)
    told = f"; no GPU is used, though there is {expected}" if expected else ""
    told = told.replace("is nvidia-smi", f"is {tmp_path / 'nvidia-smi'}")
    assert line == f"devices  CPU (3 cores), float32{told}"


@pytest.mark.long  # two seconds of a process of its own
def test_what_only_linux_has_is_not_needed():
    look = "import os; del os.memfd_create, os.sched_getaffinity; from casm_tf.host import quiet\n"
    look += "from casm_tf.training import devices; print(devices.described('float32', quiet.said))"
    done = run([sys.executable, "-c", look])
    assert done.returncode == 0 and f"CPU ({os.cpu_count()} cores)" in done.stdout, done.stderr


def test_gpus_are_told_by_their_names(monkeypatch):
    monkeypatch.setattr(devices.tf.config, "list_physical_devices", lambda _: ["GPU:0", "GPU:1"])
    details = {"device_name": "NVIDIA H100"}
    monkeypatch.setattr(devices.tf.config.experimental, "get_device_details", lambda _: details)
    line = devices.described("mixed_bfloat16", SAID)
    assert line == "devices  2 x NVIDIA H100, mixed_bfloat16"
