"""Checkpoints: written while the training goes on; whole, or known not to be."""

import concurrent.futures
import hashlib
import pathlib
import re
import shutil

import keras
import tensorflow as tf

from casm_tf.host import files

_SUMS = "SHA256SUMS"
_KEPT = 2


class Checkpoints:
    """The newest checkpoints of a training, a folder each: ckpt-<step>.

    A folder holds the variables, in TensorFlow's format (`tf.train.load_checkpoint` reads them),
    and SHA256SUMS, which `sha256sum --check` reads too. It is written under another name first.

    Args:
        state: {name: variables}, all that the training resumes with.
        directory: a pathlib.Path.
        writes: whether this process writes them; of several that train together one does.
    """

    def __init__(self, state, directory, writes=True):
        self.directory = directory
        self._variables = {
            f"{name}/{number}": variable.value if isinstance(variable, keras.Variable) else variable
            for name, variables in state.items()
            for number, variable in enumerate(variables)
        }
        self._thread = concurrent.futures.ThreadPoolExecutor(1) if writes else None
        self._writing = None
        self._damaged = []

    def restore(self, report=print):
        """Take the newest checkpoint that is as it was written; its step, or 0 without any.

        One that is not is named to `report` and passed over. Raises OSError where all are damaged,
        and for one of another model.
        """
        found = self._folders()
        for step in sorted(found, reverse=True):
            damage = _damage(found[step])
            if damage is None:
                self._read(found[step])
                return step
            report(f"{damage}: passed over")
            self._damaged.append(found[step])
        if found:
            raise OSError(f"{self.directory}: every checkpoint is damaged; delete it to begin anew")
        return 0

    def save(self, step):
        """Have the state written as it is now; waits only for the checkpoint before this one.

        Raises OSError if that could not be written.
        """
        self.wait()
        if self._thread is None:
            return
        # Not copies on a CPU: TensorFlow copies where a value in use is about to change.
        with tf.device("CPU:0"):
            values = [tf.identity(variable) for variable in self._variables.values()]
        self._writing = self._thread.submit(self._write, step, values)

    def wait(self):
        """Wait until the last checkpoint is on disk; raises as `save`."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def check(self):
        """Raise as `save`, if something went wrong by now."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def newest(self):
        """The path of the newest one that is not known to be damaged, or None."""
        found = self._folders()
        good = [step for step in found if found[step] not in self._damaged]
        return found[max(good)] if good else None

    def _folders(self):
        """{step: folder}"""
        paths = self.directory.glob("ckpt-*")
        matches = ((path, re.fullmatch(r"ckpt-(\d+)", path.name)) for path in paths)
        return {int(match[1]): path for path, match in matches if match}

    def _read(self, folder):
        expected = {name: variable.shape.as_list() for name, variable in self._variables.items()}
        with files.literal(folder) as path:
            reader = tf.train.load_checkpoint(path / "variables")
            if reader.get_variable_to_shape_map() != expected:
                raise OSError(f"{folder} is of another model, or of another version of casm_tf")
            for name, variable in self._variables.items():
                variable.assign(reader.get_tensor(name))

    def _write(self, step, values):
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in (*self.directory.glob(".unfinished.*"), *self._damaged):
            shutil.rmtree(path)
        self._damaged.clear()
        unfinished = self.directory / f".unfinished.ckpt-{step}"
        unfinished.mkdir()
        try:
            self._write_files(unfinished, values)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)  # the disk may be full
            raise
        unfinished.replace(self.directory / f"ckpt-{step}")
        files.sync(self.directory)
        found = self._folders()
        for old in sorted(found)[:-_KEPT]:
            shutil.rmtree(found[old])

    def _write_files(self, folder, values):
        try:
            tf.raw_ops.SaveV2(
                prefix=str(folder / "variables"),
                tensor_names=list(self._variables),
                shape_and_slices=[""] * len(values),
                tensors=values,
            )
        except tf.errors.OpError as error:
            reason = re.sub(r"^\{\{.*?\}\} | \[Op:\w+\].*$", "", error.message)
            raise OSError(f"a checkpoint cannot be written: {reason}") from error
        with files.naming(folder):
            (folder / _SUMS).write_text("".join(_sums(folder)))
            for path in (*folder.iterdir(), folder):
                files.sync(path)


def _sums(folder):
    """The lines that SHA256SUMS of a folder has to have."""
    for path in sorted(folder.iterdir()):
        if path.name != _SUMS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield f"{digest}  {path.name}\n"


def _damage(folder):
    """What is wrong with a checkpoint, a line that names the file; None where nothing is."""
    try:
        lines = (folder / _SUMS).read_text().splitlines(keepends=True)
        actual = list(_sums(folder))
    except (OSError, UnicodeDecodeError) as error:
        return f"{folder / _SUMS} cannot be read ({error})"
    if lines == actual:
        return None
    for line in actual:
        if line not in lines:
            name = pathlib.PurePath(line.split("  ", 1)[1].strip())
            return f"{folder / name} is not as it was written"
    return f"{folder / _SUMS} is not of the files there"
