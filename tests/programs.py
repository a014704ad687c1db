"""The programs as a user starts them: most in forks of one process that has imported TensorFlow.

Importing takes longer than most of what is tried. A fork has its own flags, streams, signals and
exit code, as a process of its own would have.
"""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
_FORKS = multiprocessing.get_context("forkserver")
# Nothing that defines a flag: each program has its own, some of the same name. The fork server
# passes over what it cannot import; the fork then does it, or fails.
_FORKS.set_forkserver_preload(
    [
        *("casm_tf.host.quiet", "keras", "tensorflow_datasets", "tensorboard.compat.proto"),
        *("cv2", "matplotlib.pyplot", "skimage.data", "sklearn.datasets", "pytest"),
        *("casm_tf.casm", "casm_tf.data.input_pipeline", "casm_tf.report.figures"),
        *("casm_tf.serving.servable", "casm_tf.training.loop", "casm_tf.training.pretraining"),
        *("casm_tf.evaluation.comparison",),
    ]
)


def command(module, *arguments):
    """What starts a program as a process of its own."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def call(module, *arguments, **options):
    """Run `python -m module arguments` in a fork: a `subprocess.CompletedProcess` with text."""
    return fork(run_module, module, *map(str, arguments), **options)


def fork(function, *arguments, cwd=ROOT, env=None, timeout=600):
    """Call a function of a module in a fork, in the folder `cwd` and with the variables `env` more.

    Returns:
        A `subprocess.CompletedProcess` with text.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = (function, arguments, str(cwd), {**os.environ, **(env or {})}, folder)
        process = _FORKS.Process(target=_in_fork, args=given)
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout)
        said = [pathlib.Path(folder, name).read_text() for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(arguments, process.exitcode, *said)


def run(arguments, **options):
    """Run a process of its own, for what a fork cannot show: its start, or what it starts."""
    options = {"cwd": ROOT, **options}
    return subprocess.run(list(arguments), capture_output=True, text=True, check=False, **options)


def _in_fork(function, arguments, cwd, env, folder):
    for number, name in ((1, "stdout"), (2, "stderr")):
        with pathlib.Path(folder, name).open("wb") as file:
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    function(*arguments)


def run_module(module, *arguments):
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
