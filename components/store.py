"""What the pipeline has made: artefacts in {root}/{Component}/{output}/{execution}/, and in
{root}/lineage.sqlite from what, by which flags, code and versions.

Two pipelines may use one root at once: the one that comes second to an execution waits for the
first and then finds it done. SQLite and flock do that; a killed process holds neither.
"""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import sqlite3
import time

from casm_tf.host import files

_TABLES = """
CREATE TABLE IF NOT EXISTS executions (
    id INTEGER PRIMARY KEY, component TEXT NOT NULL, key TEXT NOT NULL, complete INTEGER NOT NULL,
    started REAL NOT NULL, seconds REAL NOT NULL, context TEXT NOT NULL, properties TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS artefacts (
    id INTEGER PRIMARY KEY, execution INTEGER NOT NULL REFERENCES executions, output TEXT NOT NULL,
    digest TEXT NOT NULL, files TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS uses (
    execution INTEGER NOT NULL REFERENCES executions, flag TEXT NOT NULL,
    artefact INTEGER NOT NULL REFERENCES artefacts, PRIMARY KEY (execution, flag)
);
CREATE INDEX IF NOT EXISTS by_key ON executions (component, key);
CREATE INDEX IF NOT EXISTS by_digest ON artefacts (digest);
"""
_DATABASE = "lineage.sqlite"


@dataclasses.dataclass(frozen=True)
class Artefact:
    """An output that is complete.

    Attributes:
        id: its number in the database.
        execution: the number of the execution that made it.
        output: its name.
        path: where it is.
        digest: of its files' names and bytes.
    """

    id: int
    execution: int
    output: str
    path: pathlib.Path
    digest: str


@dataclasses.dataclass(frozen=True)
class Execution:
    """A component's call that is complete.

    Attributes:
        id: its number, that its artefacts' paths end in.
        component: its name.
        started: seconds since 1970.
        seconds: how long it took, over all the calls that were broken off.
        context: what went into it beside artefacts, {name: value}.
        properties: what came out beside artefacts, {name: value}.
    """

    id: int
    component: str
    started: float
    seconds: float
    context: dict
    properties: dict


class Store:
    """The artefacts and the lineage of one pipeline root."""

    def __init__(self, root):
        """Open a root. Raises OSError or ValueError where it is none and cannot become one."""
        self.root = pathlib.Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(self.root / _DATABASE, timeout=60)
            self._database.executescript(_TABLES)
        except sqlite3.Error as error:
            raise ValueError(f"{self.root / _DATABASE}: {error}") from error

    def alone(self, component, key, waiting):
        """A context: the right to execute a component for a key; `waiting` is of `files.locked`."""
        return files.locked(self.root / ".locks" / f"{component}.{key}", waiting)

    def complete(self, component, key):
        """The newest complete execution for a key whose artefacts are still there, or None."""
        rows = self._executions("component = ? AND key = ? AND complete", component, key)
        return next(filter(self._is_whole, rows), None)

    def begin(self, component, key, context, outputs, resumes):
        """The number of an execution to be done, and its {output: path}, directories not yet made.

        Where one for this key was broken off, it is that one; what it has written stays if the
        component resumes.
        """
        row = self._database.execute(
            "SELECT id FROM executions WHERE component = ? AND key = ? AND NOT complete",
            (component, key),
        ).fetchone()
        if row:
            (number,) = row
        else:
            with self._database:
                number = self._database.execute(
                    "INSERT INTO executions (component, key, complete, started, seconds, context, "
                    "properties) VALUES (?, ?, 0, ?, 0, ?, '{}')",
                    (component, key, time.time(), json.dumps(context)),
                ).lastrowid
        paths = {output: self._path(component, output, number) for output in outputs}
        for path in paths.values():
            if not resumes:
                _remove(path)
            path.parent.mkdir(parents=True, exist_ok=True)
        return number, paths

    def add_seconds(self, number, seconds):
        """Count the time of a call, whatever came of it."""
        with self._database:
            self._database.execute(
                "UPDATE executions SET seconds = seconds + ? WHERE id = ?", (seconds, number)
            )

    def finish(self, number, inputs, outputs, properties):
        """Write down an execution as complete: {flag: Artefact}, {output: path}, {name: value}."""
        described = {output: (digest(path), _sizes(path)) for output, path in outputs.items()}
        with self._database:
            for flag, artefact in inputs.items():
                self._database.execute(
                    "INSERT OR REPLACE INTO uses VALUES (?, ?, ?)", (number, flag, artefact.id)
                )
            for output, (of_all, sizes) in described.items():
                self._database.execute(
                    "INSERT INTO artefacts (execution, output, digest, files) VALUES (?, ?, ?, ?)",
                    (number, output, of_all, json.dumps(sizes)),
                )
            self._database.execute(
                "UPDATE executions SET complete = 1, properties = ? WHERE id = ?",
                (json.dumps(properties), number),
            )

    def artefacts(self, execution):
        """{output: Artefact} of an `Execution`."""
        rows = self._database.execute(
            "SELECT id, output, digest FROM artefacts WHERE execution = ?", (execution.id,)
        )
        return {
            output: Artefact(
                number,
                execution.id,
                output,
                self._path(execution.component, output, execution.id),
                of_all,
            )
            for number, output, of_all in rows
        }

    def inputs(self, execution):
        """{flag: the Execution that made it} of an `Execution`."""
        rows = self._database.execute(
            "SELECT flag, artefacts.execution FROM uses JOIN artefacts ON artefact = artefacts.id "
            "WHERE uses.execution = ? ORDER BY flag",
            (execution.id,),
        ).fetchall()
        return {flag: self._executions("id = ?", number)[0] for flag, number in rows}

    def made(self, of_all):
        """The newest complete execution with an artefact of this digest, or None."""
        row = self._database.execute(
            "SELECT execution FROM artefacts WHERE digest = ? ORDER BY execution DESC", (of_all,)
        ).fetchone()
        return self._executions("id = ?", row[0])[0] if row else None

    def executions(self, component):
        """A component's complete executions whose artefacts are still there, the newest first."""
        return filter(self._is_whole, self._executions("component = ? AND complete", component))

    def _executions(self, where, *values):
        rows = self._database.execute(
            "SELECT id, component, started, seconds, context, properties FROM executions "
            f"WHERE {where} ORDER BY id DESC",
            values,
        )
        return [Execution(*row[:4], json.loads(row[4]), json.loads(row[5])) for row in rows]

    def _is_whole(self, execution):
        """Whether each file of its artefacts is there and as long as it was, whatever else is."""
        rows = self._database.execute(
            "SELECT output, files FROM artefacts WHERE execution = ?", (execution.id,)
        )
        for output, sizes in rows:
            path = self._path(execution.component, output, execution.id)
            found = _sizes(path)
            if any(found.get(name) != size for name, size in json.loads(sizes).items()):
                return False
        return True

    def _path(self, component, output, number):
        return self.root / component / output / str(number)


def digest(path):
    """The SHA-256 of what is in a directory: its files' names and bytes, in the names' order."""
    total = hashlib.sha256()
    for file in _files(path):
        with file.open("rb") as opened:
            of_file = hashlib.file_digest(opened, "sha256").hexdigest()
        total.update(f"{file.relative_to(path).as_posix()}\0{of_file}\n".encode())
    return total.hexdigest()


def _sizes(path):
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in _files(path)}


def _files(path):
    return sorted(file for file in pathlib.Path(path).rglob("*") if file.is_file())


def _remove(path):
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
