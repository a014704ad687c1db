"""Any combination of casm_tf.train's flags trains two steps, or is refused in one line."""

import json
import multiprocessing.connection
import os
import re
import shutil

import programs
import pytest
import train_combinations
from flag_combinations import DIGITS, DOUBTFUL, GOOD, WRONG, Combination, draw

_AT_ONCE = 2
FEW = (105, 129)  # of the two hundred seeds: of small networks, and eager
# Progress bars, what TensorFlow's C++ says (eager kernels without AVX-512, determinism), and that a
# classifier of one step is a poor one.
NO_MESSAGE = re.compile(
    r"^warning: the classifier |^note  .* its head is not taken$|"
    r"\d+%\|| examples \[|/s\]| splits\]|\x1b\[A\s*$|^\s*$|^E0000 "
)
# Of too large a step, or where another file says what is wrong.
BLAMED_LATER = ("not_finite.txt", "skipped.txt", "is NaN or infinite")
# What such combinations have found: flags, and how the message begins.
FOUND = {
    "a rate of no number": ("--decoder_rate=nan", "--decoder_rate=nan: expected a finite number"),
    "a rate above float32's": ("--classifier_rate=1e39", "--classifier_rate=1e+39: expected a fi"),
    "a seed above NumPy's": ("--seed=4294967296", "--seed=4294967296: 4294967296 is not an integ"),
    "an odd size": ("--image_size=33", "--image_size: small_resnet takes multiples of 2 pixels"),
    "XLA in bfloat16": ("--xla --precision=mixed_bfloat16", "--xla: on CPUs it takes float32 only"),
    "few pixels": ("--max_pixels=9 --data_dir=new", "--max_pixels: Image size (273280 pixels)"),
    "too many snapshots": ("--snapshots=2147483647", "or --snapshots"),
    "too large a step": ("--decoder_rate=3e38", "--run_dir: after step 1 "),
}
BASE = (f"--dataset={DIGITS}", "--data_dir={root}/data", "--run_dir={own}/run", "--steps=2")
BASE += ("--classifier=small_resnet", "--decoder_channels=4", "--batch_size=8")
BASE += ("--classifier_weights={root}/digits.weights.h5",)


@pytest.fixture(scope="module")
def few_results(tmp_path_factory):
    """{seed, or name in FOUND: result}."""
    combinations = [
        Combination(name, [*BASE, *flags.split()], "", True, "refused", [expected])
        for name, (flags, expected) in FOUND.items()
    ]
    results = run([*combinations, *map(draw, FEW)], tmp_path_factory.mktemp("few") / "root")
    return {result["seed"]: result for result in results}


@pytest.mark.parametrize("name", FOUND)
def test_what_combinations_have_found_is_refused(name, few_results):
    assert what_is_wrong(few_results[name]) is None


@pytest.mark.parametrize("seed", FEW)
def test_a_combination_of_flags_trains_or_is_refused_in_one_line(seed, few_results):
    assert what_is_wrong(few_results[seed]) is None


@pytest.mark.long
def test_two_hundred_combinations_do(tmp_path):
    results = run(list(map(draw, range(200))), tmp_path / "root")
    assert len(results) == 200
    wrong = {result["seed"]: what for result in results if (what := what_is_wrong(result))}
    assert not wrong, json.dumps(wrong, indent=2)
    assert sum(result["model"] == "good masks" for result in results) >= 80


def test_every_flag_is_drawn_right_and_wrong():
    source = (programs.ROOT / "casm_tf" / "cli" / "train_flags.py").read_text()
    flags = set(re.findall(r'^flags\.DEFINE_\w+\(\s*"(\w+)"', source, re.MULTILINE))
    assert len(flags) > 40
    assert flags <= set(WRONG)
    good = {flag.split("=")[0].strip("-") for seed in range(200) for flag in draw(seed).flags}
    assert flags <= good
    assert set(GOOD) | set(DOUBTFUL) <= set(WRONG)


def run(combinations, root):
    """The results of combinations, each trained in a fork, two at once."""
    root.mkdir()
    train_combinations.make_files(root)
    waiting, running, results = combinations[::-1], {}, []
    while waiting or running:
        while waiting and len(running) < _AT_ONCE:
            one = start(waiting.pop(), root)
            running[one[0].sentinel] = one
        for ended in multiprocessing.connection.wait(running):
            results.append(result(*running.pop(ended)))
    return results


def start(combination, root):
    """The process that trains with a combination, the combination and its folder."""
    own = root / f"combination {combination.seed}"
    own.mkdir()
    flags = [
        flag.replace("{root}", str(root)).replace("{own}", str(own)) for flag in combination[1]
    ]
    (run_dir,) = (flag.split("=", 1)[1] for flag in flags if flag.startswith("--run_dir="))
    process = programs.start(
        train_combinations.train,
        *(run_dir, *flags),
        **{"stdout": own / "stdout", "stderr": own / "stderr", "cwd": own},
        env={"HOME": str(root / "home"), "TF_CONFIG": combination.tf_config},
        eager=combination.eager,
    )
    return process, combination._replace(flags=flags), own, run_dir


def result(process, combination, own, run_dir):
    """What came of a combination, whose folder goes."""
    looked_at = own / "looked at"
    found = {
        **combination._asdict(),
        "code": process.exitcode,
        **{name: (own / name).read_text(errors="replace") for name in ("stdout", "stderr")},
        "model": looked_at.read_text() if looked_at.exists() else None,
        "unfinished": [
            name
            for _, folders, files in os.walk(own / run_dir)
            for name in (*folders, *files)
            if name.startswith(".unfinished")
        ],
    }
    shutil.rmtree(own)
    return found


def what_is_wrong(result):
    """What a combination did that it should not have done, or None."""
    lines = [line for line in re.split(r"[\r\n]+", result["stderr"]) if not NO_MESSAGE.search(line)]
    told = {"code": result["code"], "lines": lines[-20:], "stdout": result["stdout"][-500:]}
    told |= {key: result[key] for key in ("flags", "tf_config", "outcome", "model", "unfinished")}
    has_stopped = "stopped after step" in result["stdout"]
    if result["code"] == 0:
        outcome = "trained"
        is_right = not lines and (result["model"] == "good masks" or has_stopped)
    else:
        outcome = "refused"
        line = lines[0] if lines else ""
        pairs = [flag.lstrip("-").split("=", 1) for flag in result["flags"] if "=" in flag]
        values = [value for name, value in pairs if value and name in result["blamed"]]
        names = any(part in line for part in (*result["blamed"], *values, *BLAMED_LATER))
        is_right = result["code"] == 2 and len(lines) == 1 and line.startswith("train: ") and names
        is_right &= result["model"] is None
    if is_right and result["outcome"] in (outcome, None) and not result["unfinished"]:
        return None
    return told
