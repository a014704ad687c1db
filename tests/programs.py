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
import warnings

ROOT = pathlib.Path(__file__).parent.parent
# A training of a second's steps.
SMALL = (
    "--dataset=digit_scenes/tiny",
    "--classifier=small_resnet",
    "--decoder_channels=4",
    "--batch_size=16",
    "--pretraining_steps=4",
    "--steps=6",
    "--decay_every=4",
    "--thinning=L2",
    "--masked_steps=present",
    "--snapshots=2",
    "--checkpoint_every=3",
    "--validate_every=3",
    "--deterministic",
)
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


class _Fork(_FORKS.Process):
    """A fork, with the methods of a `subprocess.Popen`."""

    def poll(self):
        return self.exitcode

    def wait(self, timeout=None):
        self.join(timeout)
        if self.exitcode is None:
            raise subprocess.TimeoutExpired(self.name, timeout)
        return self.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)


def command(module, *arguments):
    """What starts a program as a process of its own."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def run(arguments, **options):
    """Run a process of its own to its end, for what a fork cannot show, such as its start."""
    options = {"cwd": ROOT, **options}
    return subprocess.run(list(arguments), capture_output=True, text=True, check=False, **options)


def call(module, *arguments, eager=False, **options):
    """Run `python -m module arguments` to its end in a fork; see `fork`.

    Args:
        eager: whether TensorFlow runs its functions line by line: to trace a training's takes
            longer than ten of its steps.
    """
    return fork(run_module, module, *map(str, arguments), eager=eager, **options)


def fork(function, *arguments, timeout=600, **options):
    """Call a function of a module in a fork; see `start`.

    Returns:
        A `subprocess.CompletedProcess` with text.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder, name) for name in ("stdout", "stderr")]
        process = start(function, *arguments, stdout=files[0], stderr=files[1], **options)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, code, *(file.read_text() for file in files))


def start(function, *arguments, stdout, stderr, cwd=ROOT, env=None, eager=False):
    """Start a fork that calls a function of a module, such as `run_module`.

    Args:
        stdout, stderr: the paths of files that take what it says; they may be the same.
        cwd: the folder that it is in.
        env: {name: value} beside this process's own environment.
        eager: see `call`.

    Returns:
        What stands for a `subprocess.Popen`.
    """
    settings = {"outputs": (str(stdout), str(stderr)), "cwd": str(cwd), "eager": eager}
    settings["env"] = {**os.environ, **(env or {})}
    process = _Fork(target=_in_fork, args=(function, arguments), kwargs=settings)
    process.start()
    return process


def assert_refused(done, expected, lines=1):
    """One line on standard error; with `lines` None it may stand below a progress bar."""
    assert done.returncode == 2, done.stderr
    assert lines is None or done.stderr.count("\n") == lines, done.stderr
    assert "Traceback" not in done.stderr
    assert expected in done.stderr, done.stderr


def run_module(module, *arguments):
    """Do what `python -m module arguments` does."""
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _in_fork(function, arguments, outputs, cwd, env, eager):
    for number, path in enumerate(outputs, 1):
        with pathlib.Path(path).open("ab", buffering=0) as file:
            os.dup2(file.fileno(), number)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    if eager:
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        warnings.filterwarnings("ignore", "Even though the `tf.config.experimental_run_functions")
    function(*arguments)
