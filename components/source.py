"""What code a program is made of, for the pipeline's cache keys. Nothing of it is imported."""

import ast
import functools
import hashlib
import pathlib

import casm_tf

ROOTS = {
    "casm_tf": pathlib.Path(casm_tf.__file__).parent,
    "components": pathlib.Path(__file__).parent,
}
_DESCRIBED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(*modules):
    """The SHA-256 of modules and of all that they import of `ROOTS`, in functions too.

    Comments, docstrings and layout do not count; a style sheet of a module's name does.
    """
    found, left = {}, list(modules)
    while left:
        path = _path(left.pop())
        if path and path not in found:
            found[path], imported = _read(path)
            left += imported
    return hashlib.sha256("\n".join(sorted(found.values())).encode()).hexdigest()


def _path(module):
    """A module's file; None for what is not ours, or no module."""
    package, *rest = module.split(".")
    if package not in ROOTS:
        return None
    path = ROOTS[package].joinpath(*rest)
    files = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


@functools.cache
def _read(path):
    """(the digest of a file's code, the modules that it may import)."""
    tree = ast.parse(path.read_bytes())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.update(f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, _DESCRIBED) and ast.get_docstring(node) is not None:
            del node.body[0]
    # A package is imported before what is in it.
    imported |= {
        name.rsplit(".", count)[0] for name in imported for count in range(1, name.count(".") + 1)
    }
    style = path.with_suffix(".css")
    code = ast.dump(tree) + (style.read_text(encoding="utf-8") if style.is_file() else "")
    return hashlib.sha256(code.encode()).hexdigest(), imported
