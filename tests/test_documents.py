"""What the pages say can be done: their blocks of Python run, their commands are understood."""

import collections
import re
import shlex

import numpy as np
import pytest
import tensorflow as tf
import trees
from programs import ROOT, call

from casm_tf import networks
from components import graph

PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.rglob("configs/*.flags")),
]
PROGRAM = re.compile(r"python -m ((?:casm_tf|components|benchmarks)\.\w+)([^`|\n]*)")
# What a page has is made small, and a server's model that of the package: {page: {text: other}}.
CHANGED = {
    "method": {'"resnet50"': '"small_resnet"', "224": "32", "1000": "10", "L100": "L2"},
    "serving": {'"http://localhost:8501/v1/models/casm"': ""},
}


def blocks(page, of_the_code=False):
    """The blocks of Python of a page: those to run, or those that show the code."""
    found = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in found if ("self." in block) == of_the_code]


def commands():
    """{program: the flags that the pages give it}, of its command lines and of the pipeline's."""
    given = collections.defaultdict(list)
    for page in PAGES:
        for program, rest in PROGRAM.findall(page.read_text().replace("\\\n", " ")):
            own, _, others = rest.partition(" -- ")
            given[program] += shlex.split(own, comments=True)
            given["casm_tf.train"] += shlex.split(others, comments=True)
    for flag in given["components.pipeline"]:
        name, _, value = flag.partition("=")
        if value.startswith("--"):
            module = name.removeprefix("--")
            given["casm_tf.train" if module == "trainer" else f"components.{module}"].append(value)
    return {
        program: [x for x in flags if x.startswith("--") and not x.startswith("--help")]
        for program, flags in given.items()
    }


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.suffix == ".md" and blocks(page)],
    ids=lambda page: page.stem,
)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch, eagerly):
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "another.png"):
        trees.write(tmp_path / name)
    networks.classifier("small_resnet", 32, 10).save_weights("classifier.weights.h5")
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    names = {"images": images, "batches": tf.data.Dataset.from_tensors((images, [1, 2, 3, 4]))}
    text = "\n".join(blocks(page))
    for one, other in CHANGED.get(page.stem, {}).items():
        assert one in text
        text = text.replace(one, other)
    exec(compile(text, str(page), "exec"), names)


def test_the_code_that_a_page_shows_is_the_code():
    code = {line.strip() for line in (ROOT / "casm_tf" / "casm.py").read_text().splitlines()}
    (block,) = blocks(ROOT / "docs" / "method.md", of_the_code=True)
    assert not {line.strip() for line in block.splitlines()} - code


@pytest.mark.parametrize("program", sorted(commands()))
def test_the_flags_of_every_command_are_there(program):
    if program == "benchmarks.train_step":
        pytest.importorskip("torch")  # its peer
    # An unknown flag is refused once all others were parsed: the first is named.
    done = call(program, *commands()[program], "--is_no_flag")
    assert done.returncode == 2 and "Unknown command line flag 'is_no_flag'" in done.stderr, (
        done.stderr
    )


def test_every_flag_that_the_text_names_is_one():
    sources = [
        path
        for room in ("casm_tf", "components", "benchmarks")
        for path in (ROOT / room).rglob("*.py")
    ]
    there = {
        name for path in sources for name in re.findall(r'DEFINE_\w+\(\s*"(\w+)"', path.read_text())
    }
    there |= {component.flag for component in graph.COMPONENTS} | {"max_le", "min_f1", "min_top1"}
    named = {name for page in PAGES for name in re.findall(r"`--(?:no)?(\w+)", page.read_text())}
    assert len(named) > 30 and named - there <= {"flagfile", "help", "logdir"}


def test_the_targets_that_the_pages_name_are_the_makefiles():
    there = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name
        for page in PAGES
        for name in re.findall(r"(?:^ {4}|`)make ([\w-]+)", page.read_text(), re.MULTILINE)
    }
    assert named and named <= there
