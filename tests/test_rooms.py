"""The rooms of casm_tf: a file imports only from its own room and from those before it."""

import ast
import graphlib
import itertools

from programs import ROOT

# As in BUILD_NOTES.md, from the ground up; the programs stand on all of them.
ROOMS = [
    *(
        "host",
        "pretrained",
        "choices",
        "objectives",
        "lambdas",
        "thinning",
        "networks",
        "data",
        "stepwise",
        "casm",
    ),
    *("training", "evaluation", "serving", "second_stage", "report", "cli"),
]
PROGRAMS = ["train", "sharpen", "extract", "convert", "demo"]


def room_of(module):
    """The room of casm_tf.<room>..., or None for the package itself and what is not ours."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "casm_tf" and rest else None


def imported(path):
    """The modules that a file of casm_tf imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            is_package = node.module == "casm_tf"
            yield from (f"casm_tf.{x.name}" for x in node.names) if is_package else [node.module]


def arrows():
    """{(room, room that it imports from): a file that does}."""
    found = {}
    for path in sorted((ROOT / "casm_tf").rglob("*.py")):
        room = path.relative_to(ROOT / "casm_tf").with_suffix("").parts[0]
        for other in filter(None, map(room_of, imported(path))):
            if room not in ("__init__", other):
                found[room, other] = path.name
    return found


def test_no_room_imports_from_a_later_one():
    order = {name: number for number, name in enumerate([*ROOMS, *PROGRAMS])}
    up = {pair: file for pair, file in arrows().items() if order[pair[0]] < order[pair[1]]}
    assert not up, up


def test_no_files_import_one_another_in_a_circle():
    paths = {}
    for path in (ROOT / "casm_tf").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(part for part in parts if part != "__init__")] = path

    def modules(path):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (name.name for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                # A name that is no module is of the package that it is taken from.
                for name in node.names:
                    whole = f"{node.module}.{name.name}"
                    yield whole if whole in paths else node.module

    graph = {name: set(modules(path)) & paths.keys() - {name} for name, path in paths.items()}
    assert graph["casm_tf.casm"]
    graphlib.TopologicalSorter(graph).prepare()  # It raises CycleError with the circle.


def test_every_file_and_folder_has_its_place():
    names = {path.stem for path in (ROOT / "casm_tf").iterdir() if path.stem != "__pycache__"}
    assert names - {"__init__"} == {*ROOMS, *PROGRAMS}
    assert len(arrows()) > len(ROOMS)


def test_no_file_is_over_300_lines_and_no_function_over_60():
    folders = ("casm_tf", "components", "benchmarks", "tests")
    paths = itertools.chain.from_iterable((ROOT / name).rglob("*.py") for name in folders)
    long = []
    for path in paths:
        text = path.read_text()
        if len(text.splitlines()) > 300:
            long.append(path.name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:
                long.append(f"{path.name}: {node.name}")
    assert not long, long
