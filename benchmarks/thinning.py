"""The baseline (thinning F) against L and L100 on the same budget: python -m benchmarks.thinning

For each seed one classifier is pretrained and every strategy starts from it. F runs twice: with the
original's lambda_R, and as F_tuned with the one that is best on the validation split. follow_up is
L100 with the masked-in term.

The last line is {"F": {"LE": [...], "F1": [...]}, "L": ..., "L100": ...}, a figure a seed, of the
test split.
"""

import json
import pathlib
import statistics
import subprocess
import sys

from absl import flags

from casm_tf.cli import program

FLAGS = flags.FLAGS

flags.DEFINE_list("seeds", ["0", "1", "2"], "One training of each strategy a seed.")
flags.DEFINE_string("runs_dir", "runs/thinning", "Where the runs go; those that are there count.")

# The first one's classifier is the others' too.
_FLAGFILES = {
    "L100": "configs/casm.flags",
    "follow_up": "configs/follow_up.flags",
    "L": "configs/l.flags",
    "F": "configs/f.flags",
    "F_tuned": "configs/f_tuned.flags",
}


def main():
    results = {name: {"LE": [], "F1": []} for name in reversed(_FLAGFILES)}
    for seed in FLAGS.seeds:
        weights = []
        for name, flagfile in _FLAGFILES.items():
            run_dir = pathlib.Path(FLAGS.runs_dir) / f"{name}_seed{seed}"
            run = f"--run_dir={run_dir}"
            # A run that is finished is only scored again; one with other flags is refused.
            _call("casm_tf.train", f"--flagfile={flagfile}", f"--seed={seed}", run, *weights)
            _call("components.evaluator", run, "--compared=")
            if name == "L100":
                weights = [f"--classifier_weights={run_dir / 'classifier.weights.h5'}"]
            scores = json.loads((run_dir / "evaluation.json").read_text())["casm"]
            for key in ("LE", "F1"):
                results[name][key].append(scores[key])

    print(f"\n{'thinning':10}{'LE':>8}{'+-':>8}{'F1':>8}{'+-':>8}")
    for name, values in results.items():
        figures = [(statistics.mean(v), _deviation(v)) for v in values.values()]
        print(f"{name:10}" + "".join(f"{mean:8.3f}{deviation:8.3f}" for mean, deviation in figures))
    gap = min(f - l100 for f, l100 in zip(results["F"]["LE"], results["L100"]["LE"], strict=True))
    print(f"L100's LE is at least {gap:.3f} below F's, in every seed")
    print(json.dumps(results))


def _deviation(values):
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _call(module, *arguments):
    """Run a program of the project to its end; what it says goes to the terminal."""
    command = [sys.executable, "-m", module, *arguments]
    if subprocess.run(command, check=False).returncode:
        raise program.UserError(f"{' '.join(command)} failed")


if __name__ == "__main__":
    program.run(main)
