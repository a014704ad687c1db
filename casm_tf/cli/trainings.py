"""What trainings have in common as programs: the run's directory, and what ends them in a line."""

import contextlib

from absl import flags

from casm_tf.cli import program
from casm_tf.data import damage
from casm_tf.host import quiet
from casm_tf.training import devices, hooks, run_directory

FLAGS = flags.FLAGS


@contextlib.contextmanager
def described(run_dir, settings, dataset, strategy):
    """Keep the run's directory to this process, and describe the run there, where it writes."""
    print(devices.described(FLAGS.precision, quiet.said))
    if not devices.is_chief(strategy):
        yield
        return
    with run_directory.claimed(run_dir):
        run_directory.describe(run_dir, settings, dataset.description())
        print(f"{run_dir}: events for TensorBoard, checkpoints and at the end model.keras")
        yield


@contextlib.contextmanager
def blaming_what_happens(dataset, strategy, large):
    """Turn what ends a training into a line: a stop, a lost worker, damaged data, no memory.

    `large` are the flags that take memory.
    """
    try:
        with (
            program.blaming("run_dir", OSError),
            program.blaming("data_dir", damage.DamagedFileError),
            damage.naming_files(dataset),
            program.blaming_memory(*large),
        ):
            yield
    except hooks.NotFiniteError as error:
        raise program.UserError(
            f"--run_dir: {error}. Take a lower rate, or look at those pictures"
        ) from error
    except hooks.StoppedError as error:
        print(f"{error}; the same command resumes there")
        devices.wait_for_all(strategy)
    except devices.WorkerLostError as error:
        raise program.UserError(
            f"--strategy: another worker does not answer ({error}); start all workers again, and "
            "the training resumes from its last checkpoint"
        ) from error
