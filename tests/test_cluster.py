"""The Kubeflow Pipelines file, read back, against the graph that runs here."""

import json

import programs
import pytest

from components import graph

NAMES = {component.name: component for component in graph.COMPONENTS}


def compiled(path, *arguments):
    return programs.call("components.pipeline", f"--compile={path}", *arguments)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """The compiled file's root, executors by component, and tasks by component."""
    pytest.importorskip("kfp")
    import yaml

    path = tmp_path_factory.mktemp("cluster") / "pipeline.yaml"
    done = compiled(
        path, "--flagfile=configs/pipeline.flags", "--image=here/casm:1", "--gpus=2", "--memory=8G"
    )
    assert done.returncode == 0, done.stderr
    return next(yaml.safe_load_all(path.read_text()))


def by_component(pipeline):
    """{component's name: (its task, its executor)}."""
    found = {}
    executors = pipeline["deploymentSpec"]["executors"]
    for task in pipeline["root"]["dag"]["tasks"].values():
        component = pipeline["components"][task["componentRef"]["name"]]
        executor = executors[component["executorLabel"]]["container"]
        (name,) = [n for n in NAMES if NAMES[n].module == executor["command"][-1]]
        found[name] = task, executor
    return found


def test_tasks_and_edges_are_the_graphs(pipeline):
    found = by_component(pipeline)
    assert set(found) == set(NAMES)
    task_names = {name: task["taskInfo"]["name"] for name, (task, _) in found.items()}
    for name, (task, _) in found.items():
        edges = {
            flag: (source["taskOutputArtifact"]["producerTask"], output)
            for flag, source in task.get("inputs", {}).get("artifacts", {}).items()
            for output in [source["taskOutputArtifact"]["outputArtifactKey"]]
        }
        expected = {
            flag: (task_names[source], output)
            for flag, (source, output) in NAMES[name].inputs.items()
        }
        assert edges == expected, name


def test_arguments_are_what_the_pipeline_gives_here(pipeline):
    parameters = {
        "ExampleGen": ["--dataset=digit_scenes/full"],
        "Evaluator": ["--max_le=0.15", "--min_f1=0.7", "--min_top1=0.9"],
        "InfraValidator": [],
        "Pusher": ["--serving_dir=serving"],
    }
    for name, (_, executor) in by_component(pipeline).items():
        component = NAMES[name]
        inputs = {flag: f"{{{{$.inputs.artifacts['{flag}'].path}}}}" for flag in component.inputs}
        outputs = {
            name: f"{{{{$.outputs.artifacts['{name}'].path}}}}" for name in component.outputs
        }
        # Joined by the cluster: {"Concat": ["--flag=", path]}.
        arguments = [joined(argument) for argument in executor["args"]]
        if name == "Trainer":
            start = component.arguments(inputs, outputs, [])
            assert arguments[: len(start)] == start and start[-1] == "--"
            assert {"--steps=3000", "--thinning=L100", "--deterministic"} <= set(arguments)
        else:
            assert arguments == component.arguments(inputs, outputs, parameters[name])


def joined(argument):
    if not argument.startswith('{"Concat"'):
        return argument
    return "".join(json.loads(argument)["Concat"])


def test_image_memory_and_gpus_are_as_asked(pipeline):
    for name, (_, executor) in by_component(pipeline).items():
        assert executor["image"] == "here/casm:1"
        assert executor["resources"]["memoryLimit"] == 8.0 or (
            executor["resources"]["resourceMemoryLimit"] == "8G"
        )
        assert ("accelerator" in executor["resources"]) == (name == "Trainer")
    _, trainer = by_component(pipeline)["Trainer"]
    assert trainer["resources"]["accelerator"]["resourceCount"] == "2"


def test_without_kfp_it_is_one_line(tmp_path):
    try:
        import kfp  # noqa: F401
    except ImportError:
        done = compiled(tmp_path / "pipeline.yaml")
        assert done.returncode == 2
        assert done.stderr == "pipeline: --compile: pip install 'casm_tf[cluster]'\n"
        assert not list(tmp_path.iterdir())
    else:
        pytest.skip("kfp is installed")
