"""The pipeline's graph as data: which components there are and what of each goes where.

An input is a flag that takes another component's output, an output a flag that takes the path of
what the component makes. Nothing here imports TensorFlow.
"""

import dataclasses
import pathlib

from components import blessing, examples


@dataclasses.dataclass(frozen=True)
class Component:
    """A step of the pipeline, a program of its own.

    Attributes:
        name: TFX's.
        module: of the program: python -m module.
        inputs: {flag: (component's name, output's name)}.
        outputs: {output's name: flag}.
        starts: modules that it starts as programs of their own.
        places: flags whose directories are other things' too: what is in them is no input.
        resumes: whether a call with the same outputs resumes where the last one was broken off.
        for_another_program: whether the parameters go to a program that it calls, behind a "--".
        properties: {output's name: path} -> {name: value}, what the lineage is to keep.
    """

    name: str
    module: str
    inputs: dict[str, tuple[str, str]]
    outputs: dict[str, str]
    starts: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    resumes: bool = False
    for_another_program: bool = False
    properties: callable = lambda outputs: {}

    @property
    def flag(self):
        """The pipeline's flag for this component's parameters."""
        return self.module.rpartition(".")[2]

    def arguments(self, inputs, outputs, parameters, argument="--{}={}".format):
        """The program's arguments of {flag: path}, {output's name: path} and other arguments.

        `argument` is how a path is given, flag, path -> an argument.
        """
        paths = inputs | {self.outputs[name]: path for name, path in outputs.items()}
        arguments = [argument(flag, path) for flag, path in paths.items()]
        if self.for_another_program:
            return [*arguments, "--", *parameters]
        return [*parameters, *arguments]


def _examples(outputs):
    found = examples.read(outputs["examples"])
    return {"dataset": found["settings"]["dataset"]} | {
        name: found[name] for name in ("images", "digest")
    }


def _weights(outputs):
    return {"weights_digest": (pathlib.Path(outputs["model_run"]) / "weights.sha256").read_text()}


def _metrics(outputs):
    casm = blessing.metrics_of(outputs["evaluation"])
    metrics = {name: casm[name] for name in ("LE", "F1", "top1") if name in casm}
    return {"blessed": blessing.is_blessed(outputs["blessing"]), **metrics}


def _infra(outputs):
    return {"infra_blessed": blessing.is_blessed(outputs["blessing"])}


def _pushed(outputs):
    path = pathlib.Path(outputs["pushed_model"]).resolve()
    # A FingerprintDef, by which TensorFlow tells SavedModels apart.
    return {"pushed": str(path), "fingerprint": (path / "fingerprint.pb").read_bytes().hex()}


COMPONENTS = (
    Component(
        "ExampleGen",
        "components.example_gen",
        inputs={},
        outputs={"examples": "examples", "statistics": "statistics", "schema": "schema"},
        places=("data_dir",),
        resumes=True,
        properties=_examples,
    ),
    Component(
        "Trainer",
        "components.trainer",
        inputs={"examples": ("ExampleGen", "examples")},
        outputs={"model_run": "run_dir"},
        starts=("casm_tf.train",),
        resumes=True,
        for_another_program=True,
        properties=_weights,
    ),
    Component(
        "Evaluator",
        "components.evaluator",
        inputs={"run_dir": ("Trainer", "model_run"), "examples": ("ExampleGen", "examples")},
        outputs={"evaluation": "output_dir", "blessing": "blessing"},
        properties=_metrics,
    ),
    Component(
        "InfraValidator",
        "components.infra_validator",
        inputs={
            "run_dir": ("Trainer", "model_run"),
            "evaluation": ("Evaluator", "evaluation"),
            "examples": ("ExampleGen", "examples"),
        },
        outputs={"model": "model", "blessing": "blessing"},
        starts=("casm_tf.serving.serving_check",),
        properties=_infra,
    ),
    Component(
        "Pusher",
        "components.pusher",
        inputs={
            "model": ("InfraValidator", "model"),
            "blessing": ("Evaluator", "blessing"),
            "infra_blessing": ("InfraValidator", "blessing"),
        },
        outputs={"pushed_model": "pushed_model"},
        places=("serving_dir",),
        properties=_pushed,
    ),
)
