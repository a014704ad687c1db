"""Ours and PyTorch's steps in one table: python -m benchmarks.gpu.all NAME.json...

Runs benchmarks.gpu.run for each file, those with a reference first, and benchmarks.gpu.torch_peer
for each classifier, batch and size that the others have, each in a process of its own. The last
line is {"ours": {NAME: what benchmarks.gpu.run found, or null}, "torch": {"CLASSIFIER_BATCH_SIZE":
what benchmarks.gpu.torch_peer found, or null}}. What fails is told and left out, and makes the exit
code 1.
"""

import argparse
import json
import pathlib
import subprocess
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", metavar="NAME.json")
    parser.add_argument("--steps", type=int, default=20, help="Timed, after three that are not.")
    options = parser.parse_args()
    about = {path: json.loads(path.read_text()) for path in map(pathlib.Path, options.files)}
    files = sorted(about, key=lambda path: about[path]["reference"] is None)
    steps = f"--steps={options.steps}"
    found = {"ours": {}, "torch": {}}
    for path in files:
        figures = _last_line("benchmarks.gpu.run", path, steps)
        found["ours"][path.stem] = figures and figures[path.stem]
    names = "classifier", "batch_size", "image_size"
    for peer in sorted({tuple(x[n] for n in names) for x in about.values() if not x["reference"]}):
        flags = [f"--{name}={value}" for name, value in zip(names, peer, strict=True)]
        key = "_".join(map(str, peer))
        found["torch"][key] = _last_line("benchmarks.gpu.torch_peer", *flags, steps)
    print(f"\n{table(about, found)}\n\n{json.dumps(found)}")
    return int(None in [*found["ours"].values(), *found["torch"].values()])


def table(about, found):
    """Images a second: a line for each step, with the networks' precision or PyTorch's way."""
    rows = [("classifier", "batch", "pixels", "critic", "step", "images/s")]
    for path, x in about.items():
        figures = found["ours"][path.stem]
        if figures and "images_per_second" in figures:
            key = x["classifier"], x["batch_size"], x["image_size"], x["critic"]
            rows.append((*key, f"casm_tf {x['precision']}", figures["images_per_second"]))
    for key, figures in found["torch"].items():
        for way, kinds in (figures or {"images_per_second": {}})["images_per_second"].items():
            classifier, batch, size = key.rsplit("_", 2)
            for critic, speed in kinds.items():
                rows.append((classifier, int(batch), int(size), critic, f"PyTorch {way}", speed))
    rows[1:] = [(*row[:-1], f"{row[-1]:.1f}") for row in sorted(rows[1:])]
    return "\n".join("{:20}{:>6}{:>8}  {:9}{:26}{:>10}".format(*row) for row in rows)


def _last_line(module, *arguments):
    """The last line of a program of ours as JSON, or None where it fails; all of it is shown."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        print(f"{module} {' '.join(map(str, arguments))} failed with {process.returncode}")
        return None
    return json.loads(lines[-1])


if __name__ == "__main__":
    raise SystemExit(main())
