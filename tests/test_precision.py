"""mixed_bfloat16 against float32, each trained as the demo is: minutes, for make test-long."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.long
def test_bfloat16_reaches_the_same_localization_error(tmp_path):
    errors = {}
    for precision in ("float32", "mixed_bfloat16"):
        run = f"--run_dir={tmp_path / precision}"
        flags = ("--flagfile=configs/casm.flags", f"--precision={precision}", run)
        for program in (("casm_tf.train", *flags), ("components.evaluator", run)):
            subprocess.run([sys.executable, "-m", *program], cwd=ROOT, check=True)
        results = json.loads((tmp_path / precision / "evaluation.json").read_text())
        errors[precision] = results["casm"]["LE"]
    assert errors["mixed_bfloat16"] == pytest.approx(errors["float32"], abs=0.03)
