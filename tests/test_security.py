"""What the source may not do, seen in its syntax trees."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SOURCES = sorted(
    [
        path
        for folder in ("casm_tf", "components", "benchmarks")
        for path in ROOT.glob(f"{folder}/**/*.py")
    ]
    + [ROOT / "tests" / "stand_in.py"]
)
# Modules that run what they read, or that make a shell of a string.
_MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "lxml", "commands"}
_CALLS = {
    *("eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"),
    *("enable_unsafe_deserialization", "extractall", "unpack_archive", "subprocess.getoutput"),
    *("fromstring", "iterparse", "XML", "minidom.parse", "sax.parse"),
}
_ARGUMENTS = {"shell": False, "allow_pickle": False, "safe_mode": True, "weights_only": True}
_SERVERS = ("HTTPServer", "ThreadingHTTPServer", "TCPServer", "add_insecure_port", "bind", "listen")


def wrongs(source):
    """Lines of what a source text may not do."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
        else:
            modules = []
        if any(module.partition(".")[0] in _MODULES for module in modules):
            found.append(f"{node.lineno}: imports {modules}")
        if any(module.startswith("xml.") and "xml.etree" not in module for module in modules):
            found.append(f"{node.lineno}: imports {modules}")
        if isinstance(node, ast.Call):
            found += [f"{node.lineno}: {wrong}" for wrong in _of_call(node, tree)]
    return found


def _of_call(node, tree):
    name = ast.unparse(node.func)
    last = name.rpartition(".")[2]
    # A network of torch's has an eval() too.
    names = {name, ".".join(name.split(".")[-2:])} | ({last} - {"eval", "exec"})
    if names & _CALLS:
        yield f"calls {name}"
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    for argument, safe in _ARGUMENTS.items():
        value = given.get(argument)
        if value is not None and getattr(value, "value", None) is not safe:
            yield f"{argument} is not {safe}"
    # torch's load, by whichever name; numpy's and Keras's are safe by default.
    of_torch = any(
        isinstance(found, ast.ImportFrom)
        and found.module == "torch"
        and last in {alias.asname or alias.name for alias in found.names}
        for found in ast.walk(tree)
    )
    if (name == "torch.load" or (of_torch and name == "load")) and "weights_only" not in given:
        yield "torch.load without weights_only"
    if name.startswith("ElementTree") and last == "parse" and len(node.args) < 2:
        yield "an XML parser that takes a DOCTYPE"
    if name.startswith("subprocess.") and isinstance(node.args[0], (ast.JoinedStr, ast.Constant)):
        yield "a command as a string"
    if last in _SERVERS and "127.0.0.1" not in ast.unparse(node.args[0]):
        yield "a server that listens on more than 127.0.0.1"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_source_runs_nothing_that_it_reads(path):
    assert wrongs(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from dill import load",
        "from xml import sax",
        "import xml.dom.minidom",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=wanted)",
        "import torch\ntorch.load(path)",
        "from torch import load\nload(path, weights_only=False)",
        "from torch import load\nload(path)",
        "keras.models.load_model(path, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "subprocess.run(command, shell=True)",
        "subprocess.run(f'touch {path}')",
        "os.system('ls')",
        "eval(text)",
        "yaml.load(text)",
        "ElementTree.parse(path)",
        "ElementTree.fromstring(text)",
        "archive.extractall(folder)",
        "http.server.HTTPServer(('0.0.0.0', 0), Handler)",
        "server.add_insecure_port('[::]:0')",
    ],
)
def test_what_is_forbidden_is_found(source):
    assert len(wrongs(source)) == 1


def test_parsers_of_xml_refuse_a_doctype():
    sources = {path.name: path.read_text(encoding="utf-8") for path in SOURCES}
    assert [name for name in sources if "ElementTree" in sources[name]] == ["annotations.py"]
    assert "XMLParser(target=_WithoutDoctype())" in sources["annotations.py"]


def test_programs_that_load_a_savedmodel_say_what_it_is():
    texts = {
        name: " ".join((ROOT / name).read_text(encoding="utf-8").split())
        for name in ("casm_tf/extract.py", "components/infra_validator.py", "README.md")
    }
    for name, text in texts.items():
        assert "SavedModel" in text and "trusted places only" in text, name
