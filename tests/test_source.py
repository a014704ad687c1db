"""Which changes of the code have a component of the pipeline executed again."""

import json
import shutil

import programs
import pytest

from components import graph, source

NAMES = ["ExampleGen", "Trainer", "Evaluator", "InfraValidator", "Pusher"]


def digests():
    return {x.name: source.digest(x.module, *x.starts) for x in graph.COMPONENTS}


@pytest.fixture(scope="module")
def before():
    return digests()


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("casm_tf/casm.py", '."""\n\nimport ', '. Another."""\n\n# a comment\nimport ', []),
        ("casm_tf/report/page.py", "\nimport ", "\nX = 1\nimport ", ["Evaluator"]),
        ("casm_tf/report/page.css", "{", "{ ", ["Evaluator"]),
        ("casm_tf/casm.py", "\nimport ", "\nX = 1\nimport ", ["Trainer"]),
        ("casm_tf/serving/serving_check.py", "\nimport ", "\nX = 1\nimport ", ["InfraValidator"]),
        ("components/blessing.py", "\nimport ", "\nX = 1\nimport ", NAMES[2:]),
        ("components/trainer.py", "\nimport ", "\nX = 1\nimport ", ["Trainer"]),
        ("casm_tf/host/files.py", "\nimport ", "\nX = 1\nimport ", NAMES),
        ("casm_tf/demo.py", "\nimport ", "\nX = 1\nimport ", []),
    ],
)
def test_what_a_component_imports_counts(file, old, new, changed, before, monkeypatch, tmp_path):
    def copied(name):
        left_out = shutil.ignore_patterns("photographs", "__pycache__")
        return shutil.copytree(source.ROOTS[name], tmp_path / name, ignore=left_out)

    package = file.partition("/")[0]
    monkeypatch.setitem(source.ROOTS, package, copied(package))
    path = tmp_path / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    after = digests()
    assert [name for name in NAMES if after[name] != before[name]] == changed


def print_digests(*paths):
    from components import pipeline  # its flags are for a process of its own

    one, other = paths
    print(json.dumps(pipeline._files_named([f"--critics=resnet18:{one},resnet34:{other}"], ())))


def test_the_files_of_critics_count(tmp_path):
    paths = [tmp_path / name for name in ("one", "other")]
    found = []
    for words in ("ab", "ac"):
        for path, word in zip(paths, words, strict=True):
            path.write_text(word)
        done = programs.fork(print_digests, *paths)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["critics"])
    assert found[0][0] == found[1][0] and found[0][1] != found[1][1]
