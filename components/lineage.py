"""From what a model was made: python -m components.lineage serving/casm/1

Takes a pushed model, or a copy of it, or any artefact of a pipeline root, and prints the executions
that led to it, back to the data: flags, digests of data and code, versions, metrics.
"""

import pathlib
import time

from absl import flags

from casm_tf.cli import program
from components import store

FLAGS = flags.FLAGS

flags.DEFINE_string("pipeline_root", "runs/pipeline", "Of the pipeline that made it.")


def main(arguments):
    if len(arguments) != 1:
        raise program.UserError(f"takes one path of an artefact; found {len(arguments)}")
    path = pathlib.Path(arguments[0])
    if not path.exists():
        raise program.UserError(f"there is no {path}")
    if not (pathlib.Path(FLAGS.pipeline_root) / "lineage.sqlite").exists():
        raise program.UserError(f"--pipeline_root: {FLAGS.pipeline_root} has no lineage.sqlite")
    with program.blaming("pipeline_root"):
        artefacts = store.Store(FLAGS.pipeline_root)
    execution = artefacts.made(store.digest(path))
    if execution is None:
        raise program.UserError(f"{FLAGS.pipeline_root} has no artefact of the content of {path}")

    waiting, told = [execution], set()
    while waiting:
        execution = waiting.pop(0)
        if execution.id in told:
            continue
        told.add(execution.id)
        sources = artefacts.inputs(execution)
        waiting += sources.values()
        _print(execution, sources, artefacts)


def _print(execution, sources, artefacts):
    day = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(execution.started))
    print(f"{execution.component}, execution {execution.id}, {day}, {execution.seconds:.1f} s")
    for flag, source in sources.items():
        print(f"  from     --{flag}: {source.component}, execution {source.id}")
    for parameter in execution.context["flags"]:
        print(f"  flag     {parameter}")
    for name, digest in execution.context["files"].items():
        print(f"  file     --{name}: {digest}")
    print(f"  code     {execution.context['code']}")
    versions = execution.context["versions"].items()
    print(f"  versions {', '.join(f'{name} {version}' for name, version in versions)}")
    for name, value in execution.properties.items():
        print(f"  gave     {name}: {value}")
    for output, artefact in artefacts.artefacts(execution).items():
        print(f"  made     {output}: {artefact.path}, {artefact.digest}")
    print()


if __name__ == "__main__":
    program.run(main, takes_arguments=True)
