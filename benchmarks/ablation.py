"""The paper's Table 2 on digit_scenes: python -m benchmarks.ablation

A row is a score (E, C), an encoder (the classifier's, `shared`, or one of the mask's own,
`separate`) and a thinning (F, L, FL, L1000, L100): 20 rows, each trained from one classifier a seed
and otherwise as configs/casm.flags. Each run that is finished adds its line to ablation.csv in
--runs_dir, and what is there is not done again.

Thinning keeps its meaning when the schedule is shorter. L100 is every --steps / 30 steps and L1000
every --steps / 3, the shares of the 3,000 steps of configs/casm.flags that 100 and 1,000 are; the
column `every` has the number. So L1000 has no past critic in the first third, and two at most.

lambda_R is the original's for each thinning times one factor for each score, so that no row is
favoured (`_LAMBDA_FACTOR`): for E the one that is best for L100 on the validation split
(docs/measurements.md); for C, of 0.45 and 0.9, the one with the lower LE there.

All of it takes about 75 minutes on 2 cores. Two calls with half of --rows each and directories of
their own, on one core each, are a fifth faster than one call on both.

The last line is {"rows": {"E_shared_F": {"LE": [...], ...}, ...}, "executed": [runs of this call],
"failed": [...]}, a figure a seed. A run that fails is named and the others go on; the exit code is
then 1.
"""

import csv
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import time

import casm_tf.host.quiet  # noqa: F401

# isort: split

from absl import flags

from casm_tf import objectives
from casm_tf.cli import program
from casm_tf.host import files
from casm_tf.training import run_directory

FLAGS = flags.FLAGS


_SCORES = {"E": "entropy", "C": "classification"}
_LAMBDA_FACTOR = {"E": 0.9, "C": 0.9}
# Their steps, of configs/casm.flags's 3,000, as parts of a schedule.
_PARTS = {"L1000": 3, "L100": 30}
ROWS = {
    "_".join(row): row
    for row in itertools.product(_SCORES, ("shared", "separate"), ("F", "L", "FL", "L1000", "L100"))
}
# The paper's claim rests on these: they are trained with every seed.
_DECIDING = ("E_shared_F", "E_shared_L", "E_shared_L100")
# The CSV's columns: which run, its other settings, its figures.
_KEY = ("score", "shared", "thinning", "seed")
_SETTINGS = ("dataset", "split", "pretraining_steps", "steps", "every", "lambda_size")
_FIGURES = (
    *("LE", "LE_mean_rule", "OM", "F1", "top1", "top1_before", "top1_masked_in"),
    *("top1_masked_out", "mask_mean", "mask_std", "mask_entropy", "mask_tv", "seconds"),
)
_SHOWN = {"LE": "LE", "OM": "OM", "F1": "F1", "top1": "top-1", "mask_mean": "mask mean"}

flags.DEFINE_list("rows", list(ROWS), "Which rows: <E or C>_<shared or separate>_<thinning>.")
flags.DEFINE_list(
    "seeds",
    ["0", "1", "2"],
    "Of E_shared_F, E_shared_L and E_shared_L100, which decide; the others take the first.",
)
flags.DEFINE_string("runs_dir", "runs/ablation", "Where the runs and ablation.csv go.")
flags.DEFINE_enum(
    "dataset", "digit_scenes/full", ["digit_scenes/full", "digit_scenes/tiny"], "What is learned."
)
flags.DEFINE_string("data_dir", None, "Where TFDS keeps data sets.")
flags.DEFINE_enum("split", "test", ["validation", "test"], "What is scored.")
flags.DEFINE_integer("pretraining_steps", 3000, "Of each seed's classifier.", lower_bound=1)
flags.DEFINE_integer(
    "steps", 1500, "Of each alternation; both rates / 10 after 70% of them.", lower_bound=1
)
flags.register_validator(
    "rows", lambda rows: rows and set(rows) <= set(ROWS), f"rows are of {', '.join(ROWS)}"
)
flags.register_validator(
    "seeds", lambda seeds: seeds and all(map(str.isdecimal, seeds)), "seeds are integers from 0"
)


def main():
    runs_dir = pathlib.Path(FLAGS.runs_dir)
    table = runs_dir / "ablation.csv"
    plan = _plan()
    with program.blaming("runs_dir"):
        files.check_writable(runs_dir)
        done = _done(table, plan)
        missing = {name: run for name, run in plan.items() if name not in done}
        for seed in {run["seed"] for run in missing.values()}:
            run_directory.check_same(_classifier_dir(seed), _classifier_flags(seed), ())
    (runs_dir / "logs").mkdir(parents=True, exist_ok=True)

    executed, failed = [], []
    print(f"{len(plan)} runs, {len(done)} of them in {table}", flush=True)
    for number, (name, run) in enumerate(missing.items(), 1):
        print(f"{number:3} of {len(missing)}  {name:26}", end="", flush=True)
        try:
            figures = _trained_and_scored(runs_dir / name, run)
        except _FailedError as error:
            failed.append(name)
            print(f"FAILED: {error}", flush=True)
            continue
        executed.append(name)
        done[name] = run | {key: str(figures[key]) for key in _FIGURES}
        _append(table, done[name])
        shown = (f"{title} {figures[key]:.3f}  " for key, title in _SHOWN.items())
        print("".join(shown) + f"{figures['seconds']:.0f} s", flush=True)

    results = _by_row(plan, done)
    _print_table(results)
    rows = {name: {key: row[key] for key in _FIGURES} for name, row in results.items()}
    print(json.dumps({"rows": rows, "executed": executed, "failed": failed}))
    if failed:
        sys.exit(f"ablation: {len(failed)} of {len(missing)} runs failed: {', '.join(failed)}")


def _plan():
    """{run's name: its key and settings, strings as in the CSV}, seed by seed."""
    plan = {}
    for seed, name in itertools.product(FLAGS.seeds, FLAGS.rows):
        if seed != FLAGS.seeds[0] and name not in _DECIDING:
            continue
        score, encoder, thinning = ROWS[name]
        parts = _PARTS.get(thinning)
        original = objectives.ORIGINAL_LAMBDA[_SCORES[score]][thinning]
        run = {
            "score": score,
            "shared": encoder == "shared",
            "thinning": thinning,
            "seed": seed,
            "dataset": FLAGS.dataset,
            "split": FLAGS.split,
            "pretraining_steps": FLAGS.pretraining_steps,
            "steps": FLAGS.steps,
            "every": max(1, FLAGS.steps // parts) if parts else "",
            "lambda_size": round(_LAMBDA_FACTOR[score] * original, 6),
        }
        plan[f"{name}_seed{seed}"] = {key: str(value) for key, value in run.items()}
    return plan


def _done(table, plan):
    """{name: line} of the plan's runs that are in the CSV; ValueError for one of other settings."""
    done = {}
    lines = {tuple(line[key] for key in _KEY): line for line in _lines(table)}
    for name, run in plan.items():
        line = lines.get(tuple(run[key] for key in _KEY))
        if line is None:
            continue
        for key in _SETTINGS:
            if line[key] != run[key]:
                raise ValueError(
                    f"{table} has {name} with {key} {line[key]}; found {run[key]}. "
                    "Take another directory or the same flags"
                )
        done[name] = line
    return done


def _lines(table):
    """The CSV's lines as dicts of strings; none where there is no file."""
    if not table.exists():
        return []
    with table.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != (*_KEY, *_SETTINGS, *_FIGURES):
            raise ValueError(f"{table} does not begin with this program's columns")
        return list(reader)


def _append(table, line):
    """Write the CSV anew with one more line, whole or not at all."""
    lines = [*_lines(table), line]
    with files.replacing(table) as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, (*_KEY, *_SETTINGS, *_FIGURES))
        writer.writeheader()
        writer.writerows(lines)


def _trained_and_scored(run_dir, run):
    """The figures of one run, {name: float}."""
    weights = _classifier(run["seed"])
    start = time.perf_counter()
    steps = run["steps"]
    _call(
        run_dir.name,
        "casm_tf.train",
        *_arguments(_shared_flags(run["seed"])),
        f"--classifier_weights={weights}",
        f"--score={_SCORES[run['score']]}",
        f"--shared_encoder={run['shared'].lower()}",
        f"--thinning={'L' + run['every'] if run['every'] else run['thinning']}",
        f"--lambda_size={run['lambda_size']}",
        f"--steps={steps}",
        f"--decay_every={max(1, int(steps) * 7 // 10)}",
        # Both take time; a run that is broken off begins anew.
        f"--validate_every={steps}",
        f"--checkpoint_every={steps}",
        f"--run_dir={run_dir}",
    )
    _call(
        run_dir.name,
        "components.evaluator",
        f"--run_dir={run_dir}",
        "--compared=",
        f"--split={run['split']}",
    )
    scores = json.loads((run_dir / "evaluation.json").read_text())["casm"]
    return scores | {"seconds": round(time.perf_counter() - start, 1)}


def _classifier(seed):
    """The weights of the seed's classifier, pretrained by a run of one step if there are none."""
    weights = _classifier_dir(seed) / run_directory.FIRST_CLASSIFIER
    if not weights.exists():
        _call(
            weights.parent.name,
            "casm_tf.train",
            *_arguments(_classifier_flags(seed)),
            f"--validate_every={FLAGS.pretraining_steps}",
            f"--checkpoint_every={FLAGS.pretraining_steps}",
            f"--run_dir={weights.parent}",
        )
    return weights


def _classifier_dir(seed):
    return pathlib.Path(FLAGS.runs_dir) / f"classifier_seed{seed}"


def _classifier_flags(seed):
    return _shared_flags(seed) | {"thinning": "F", "steps": 1, "decay_every": 1}


def _shared_flags(seed):
    """What the pretraining and the alternation have in common, over configs/casm.flags."""
    pretraining_steps = FLAGS.pretraining_steps
    return {"dataset": FLAGS.dataset, "seed": int(seed), "pretraining_steps": pretraining_steps}


def _arguments(settings):
    data_dir = [f"--data_dir={FLAGS.data_dir}"] if FLAGS.data_dir else []
    settings = [f"--{name}={value}" for name, value in settings.items()]
    return ["--flagfile=configs/casm.flags", *data_dir, *settings]


class _FailedError(Exception):
    """A program that ended with an error: its last line and where the others are."""


def _call(name, module, *arguments):
    """Run a program of the project to its end; what it says goes to logs/<name>.txt."""
    log = pathlib.Path(FLAGS.runs_dir) / "logs" / f"{name}.txt"
    with log.open("a") as file:
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        last = (log.read_text(errors="replace").split("\n")[-2:] or [""])[0].split("\r")[-1]
        raise _FailedError(f"{last} (exit code {done.returncode}, {log})")


def _by_row(plan, done):
    """{row's name: its lambda_R, steps between snapshots, and lists of figures, one a seed}."""
    results = {}
    for name, run in plan.items():
        if name in done:
            row_name = name.rpartition("_seed")[0]
            settings = {"lambda_size": run["lambda_size"], "every": run["every"]}
            row = results.setdefault(row_name, settings | {key: [] for key in _FIGURES})
            for key in _FIGURES:
                row[key].append(float(done[name][key]))
    return {name: results[name] for name in ROWS if name in results}


def _print_table(results):
    print(f"\n{'row':20}{'lambda_R':>9}{'every':>7}{'seeds':>7}", end="")
    print("".join(f"{title:>17}" for title in _SHOWN.values()))
    for name, row in results.items():
        print(f"{name:20}{row['lambda_size']:>9}{row['every']:>7}{len(row['LE']):7}", end="")
        print("".join(f"{_mean_and_deviation(row[key]):>17}" for key in _SHOWN))


def _mean_and_deviation(values):
    deviation = f" +- {statistics.stdev(values):.3f}" if len(values) > 1 else " " * 9
    return f"{statistics.mean(values):.3f}{deviation}"


if __name__ == "__main__":
    program.run(main)
