"""Data, training, evaluation, validation and push by one command:

    python -m components.pipeline --flagfile=configs/pipeline.flags

Each component (components/graph.py) is a program of its own. What it makes is an artefact in
{pipeline_root}/{Component}/{output}/{execution}/. It is not executed again where its inputs, flags
and code are those of an execution whose artefacts are there; one that was broken off resumes. From
what an artefact was made python -m components.lineage tells.

A component's flags are given by a flag of its name, one each: --evaluator=--max_le=0.1; of one that
is given twice the last counts. A file or folder that such a flag names counts by what is in it; the
code of a component is that of all it imports here, without comments and docstrings.

The last line is {"executed": [components], "cached": [components], "pushed": path or null}. The
exit code is 1 where a component failed or the model was not blessed: then nothing is pushed.
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import time

from absl import flags

from casm_tf.cli import flagfiles, program
from casm_tf.host import files
from components import cluster, graph, source, store

FLAGS = flags.FLAGS

flags.DEFINE_string("pipeline_root", "runs/pipeline", "For the artefacts and the lineage.")
flags.DEFINE_string(
    "latest", None, "A directory for links to the newest run's and its evaluation's files."
)
flags.DEFINE_string(
    "compile", None, "Execute nothing but write this Kubeflow Pipelines v2 file (extra: cluster)."
)
flags.DEFINE_string("image", "casm_tf:latest", "Of --compile: the Dockerfile's.")
flags.DEFINE_integer("gpus", 0, "Of --compile: for the trainer.", lower_bound=0)
flags.DEFINE_string("gpu", "nvidia-tesla-t4", "Of --compile: their kind.")
flags.DEFINE_string("memory", "16G", "Of --compile: for each container.")
for _component in graph.COMPONENTS:
    flags.DEFINE_multi_string(
        _component.flag, [], f"A flag of {_component.module}, such as --name=value."
    )

_PACKAGES = ("casm_tf", "keras", "numpy", "tensorflow", "tensorflow-datasets")


class _StoppedError(Exception):
    """A component that failed: why the pipeline ends here."""


def main():
    parameters = {}
    for component in graph.COMPONENTS:
        with program.blaming(component.flag, (ValueError, OSError, flags.Error)):
            parameters[component.name] = _in_force(FLAGS[component.flag].value)
    if FLAGS.compile:
        return _compile(parameters)
    with program.blaming("pipeline_root"):
        files.check_writable(FLAGS.pipeline_root)
        artefacts = store.Store(FLAGS.pipeline_root)
    done, report = {}, []
    stopped = None
    for component in graph.COMPONENTS:
        try:
            execution, was_cached = _run(component, parameters[component.name], artefacts, done)
        except _StoppedError as error:
            stopped = f"{component.name}: {error}"
            break
        done[component.name] = execution
        report.append((component.name, "cached" if was_cached else "executed", execution))
        if execution.properties.get("blessed", execution.properties.get("infra_blessed")) is False:
            stopped = f"{component.name} did not bless the model: nothing is pushed"
            break
    if FLAGS.latest and "Evaluator" in done:
        with program.blaming("latest"):
            _link(FLAGS.latest, artefacts, done["Trainer"], done["Evaluator"])

    _print_overview(report, artefacts)
    by_state = {
        state: [name for name, found, _ in report if found == state]
        for state in ("executed", "cached")
    }
    if not by_state["executed"] and not stopped:
        print("nothing was executed: inputs, flags and code are as they were")
    pushed = done["Pusher"].properties["pushed"] if "Pusher" in done else None
    if FLAGS.latest and "Evaluator" in done:
        print(f"made  {FLAGS.latest}: evaluation.json, figure.png, report.html and the run's files")
    if pushed:
        given = f"--model={pushed}", "--output=masks", "PHOTO.jpg"
        print(f"next  {program.command('casm_tf.extract', *given)}")
        given = pushed, f"--pipeline_root={FLAGS.pipeline_root}"
        print(f"      {program.command('components.lineage', *given)}")
        print("      make demo, for masks of photographs: this model knows what it was trained on")
    print(json.dumps(by_state | {"pushed": pushed}))
    if stopped:
        print(f"pipeline: {stopped}", file=sys.stderr)
        return 1
    return 0


def _compile(parameters):
    try:
        cluster.compile_pipeline(
            parameters, FLAGS.compile, FLAGS.image, FLAGS.gpus, FLAGS.gpu, FLAGS.memory
        )
    except ImportError as error:
        raise program.UserError("--compile: pip install 'casm_tf[cluster]'") from error
    print(f"made  {FLAGS.compile}, for Kubeflow Pipelines v2 or Vertex AI")
    print(f"next  build the image {FLAGS.image} of the Dockerfile and submit the file")
    return 0


def _in_force(given):
    """Arguments with what their flagfiles say, of a flag given twice the last one."""
    found = flagfiles.expanded(given)
    for argument in found:
        if not argument.startswith("--"):
            raise ValueError(f"expected a flag such as --name=value; found {argument!r}")
    return list({argument.partition("=")[0]: argument for argument in found}.values())


def _run(component, parameters, artefacts, done):
    """(the complete Execution of a component, whether it was there already)."""
    inputs = {
        flag: artefacts.artefacts(done[maker])[output]
        for flag, (maker, output) in component.inputs.items()
    }
    last_blessed = _last_blessed(artefacts, done) if component.name == "Evaluator" else None
    if last_blessed:
        inputs["last_blessed"] = last_blessed
    context = {
        "flags": parameters,
        "files": _files_named(parameters, component.places),
        "code": source.digest(component.module, *component.starts),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
    }
    of_inputs = {flag: artefact.digest for flag, artefact in inputs.items()}
    key = hashlib.sha256(json.dumps([context, of_inputs], sort_keys=True).encode()).hexdigest()

    def say_waiting(_):
        print(f"{component.name}: another pipeline is at it; waiting", flush=True)

    with artefacts.alone(component.name, key, say_waiting):
        execution = artefacts.complete(component.name, key)
        if execution:
            return execution, True
        number, outputs = artefacts.begin(
            component.name, key, context, component.outputs, component.resumes
        )
        print(f"=== {component.name}, execution {number} ===", flush=True)
        arguments = component.arguments(
            {flag: artefact.path for flag, artefact in inputs.items()}, outputs, parameters
        )
        started = time.monotonic()
        try:
            code = program.call(
                [sys.executable, "-m", component.module, *arguments],
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        finally:
            artefacts.add_seconds(number, time.monotonic() - started)
        if code:
            raise _StoppedError(f"exit code {code}; the same command resumes here")
        artefacts.finish(number, inputs, outputs, component.properties(outputs))
        return artefacts.complete(component.name, key), False


def _last_blessed(artefacts, done):
    """The evaluation of the last blessed model other than this one on the same data, or None."""
    weights = done["Trainer"].properties["weights_digest"]
    data = done["ExampleGen"].properties["digest"]
    for execution in artefacts.executions("Evaluator"):
        sources = artefacts.inputs(execution)
        is_other = sources["run_dir"].properties["weights_digest"] != weights
        is_same_data = sources["examples"].properties["digest"] == data
        if execution.properties["blessed"] and is_other and is_same_data:
            return artefacts.artefacts(execution)["evaluation"]
    return None


def _files_named(parameters, places):
    """{flag: digests of what is in the files or folders that it names}, for those that name one.

    A flag names a file, or ARCHITECTURE:FILE,... as --critics does. A folder counts by its files'
    names, sizes and times: it may be of any size.
    """
    digests = {}
    for parameter in parameters:
        name, _, value = parameter.removeprefix("--").partition("=")
        values = [value, *(part.partition(":")[2] for part in value.split(","))]
        paths = [pathlib.Path(value) for value in values if value]
        if name not in places and any(path.exists() for path in paths):
            digests[name] = [_digest(path) for path in paths if path.exists()]
    return digests


def _digest(path):
    total = hashlib.sha256()
    if path.is_file():
        total.update(path.read_bytes())
    else:
        for file, entry in sorted(files.below(path), key=lambda found: found[0]):
            total.update(f"{file}\0{files.stamp(entry)}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def _link(directory, artefacts, trained, evaluated):
    """Let a directory have the files of a run and of its evaluation, as links."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for execution, output in ((trained, "model_run"), (evaluated, "evaluation")):
        for file in artefacts.artefacts(execution)[output].path.iterdir():
            if file.is_file():
                link = directory / file.name
                link.unlink(missing_ok=True)
                link.symlink_to(os.path.relpath(file, directory))


def _print_overview(report, artefacts):
    print(f"\n{'':16}{'':10}{'seconds':>9}  artefacts")
    for name, state, execution in report:
        paths = [artefact.path for artefact in artefacts.artefacts(execution).values()]
        print(f"{name:16}{state:10}{execution.seconds:9.1f}  {' '.join(map(str, paths))}")


if __name__ == "__main__":
    program.run(main)
