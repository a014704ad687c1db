"""A bug in the middle of a program's work has its traceback: it is no mistake of the user's."""

import errno
import os
import shutil
import sys

import programs
import pytest
from programs import SMALL

from casm_tf.cli import program


def with_a_bug(where, name, module, *arguments):
    """Run a program in which a function of a class or module fails."""
    owner = __import__(where.partition(":")[0], fromlist=["_"])
    for part in filter(None, where.partition(":")[2].split(".")):
        owner = getattr(owner, part)

    def fail(*_, **__):
        raise ValueError("a bug")

    setattr(owner, name, fail)
    programs.run_module(module, *arguments)


def on_a_full_disk():
    def main():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/report.html")

    sys.argv = ["evaluator.py"]
    program.run(main)


def test_a_full_disk_is_one_line_wherever_it_is_met():
    done = programs.fork(on_a_full_disk)
    assert done.returncode == 2
    assert done.stderr == "evaluator: [Errno 28] No space left on device: 'out/report.html'\n"


def test_an_interruption_is_one_line(monkeypatch, capsys):
    def main():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["evaluator.py"])
    with pytest.raises(SystemExit) as ended:
        program.run(main)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\nevaluator: interrupted\n"


@pytest.mark.parametrize(
    ("where", "name", "module", "arguments"),
    [
        (
            *("casm_tf.evaluation.comparison:Comparison", "accumulate"),
            *("components.evaluator", ["--compared=full_image", "--output_dir={}"]),
        ),
        ("casm_tf.serving.export", "servable", "components.pusher", ["--serving_dir={}"]),
        (
            *("casm_tf.serving.export", "servable", "components.infra_validator"),
            ["--model={}", "--blessing={}"],
        ),
        ("casm_tf.training.hooks:Remember", "begin", "casm_tf.train", SMALL),
        pytest.param(
            *("casm_tf.networks", "mask_model", "casm_tf.train", SMALL),
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_bug_is_no_mistake_of_the_users(
    where, name, module, arguments, finished_run, tiny_data_dir, tmp_path
):
    run_dir = finished_run
    if module == "casm_tf.train":
        run_dir = shutil.copytree(finished_run, tmp_path / "run")
        (run_dir / "model.keras").unlink()
        if name == "begin":
            shutil.rmtree(run_dir / "masks")
    given = [argument.format(tmp_path / "output") for argument in arguments]
    given += [f"--run_dir={run_dir}"]
    if module != "components.pusher":  # which needs no data
        given += [f"--data_dir={tiny_data_dir}"]
    done = programs.fork(with_a_bug, where, name, module, *given, eager=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("ValueError: a bug\n")
    assert not (tmp_path / "output" / "evaluation.json").exists()
    assert not list(tmp_path.rglob(".unfinished*"))
