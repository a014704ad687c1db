"""Combinations of casm_tf.train's flags: each trains two steps or is refused with one line."""

import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


def results(seeds, root):
    """What became of the combinations of some seeds (`flag_combinations.py`)."""
    command = [sys.executable, HERE / "flag_combinations.py", root, "2", *map(str, seeds)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def mistakes(result):
    """What is wrong with the outcome of a combination; empty where nothing is."""
    code, errors = result["code"], result["stderr"]
    if code == 0:
        if result["outcome"] == "refused":
            return "was not refused"
        return "" if result["model"] == "good masks" else f"left {result['model']}"
    if code != 2:
        return f"ended with {code}: {errors[-2000:]}"
    if result["outcome"] == "trained":
        return f"was refused: {errors[-500:]}"
    if "Traceback" in errors or not errors.strip().splitlines()[-1].startswith("train: "):
        return f"was not refused in one line: {errors[-1000:]}"
    return f"left {result['unfinished']}" if result["unfinished"] else ""


@pytest.mark.parametrize(
    "count", [4, pytest.param(200, marks=pytest.mark.long)], ids=["a few", "200"]
)
def test_each_combination_trains_or_is_refused_with_one_line(count, tmp_path):
    found = results(range(count), tmp_path / "root")
    assert len(found) == count
    wrong = {result["seed"]: mistakes(result) for result in found}
    wrong = {seed: mistake for seed, mistake in wrong.items() if mistake}
    for result in found:
        if result["seed"] in wrong:
            print(result["seed"], wrong[result["seed"]], result["flags"], result["tf_config"])
    assert not wrong
    assert sum(result["code"] == 0 for result in found) > 0.4 * count
