"""The pipeline's graph as a Kubeflow Pipelines v2 file, which Vertex AI takes too.

Needs the package kfp (extra `cluster`), and no TensorFlow. Each component is a container that runs
its program; an artefact is a directory that the cluster gives it. The pusher has the blessings as
inputs and fails without them, as it does here.
"""

import pathlib

from components import graph


def compile_pipeline(parameters, path, image, gpus=0, gpu="nvidia-tesla-t4", memory="16G"):
    """Write the graph as a pipeline file.

    Args:
        parameters: {component's name: its program's arguments}, flagfiles expanded.
        path: of the .yaml file.
        image: the container's, made of the Dockerfile.
        gpus: of the kind `gpu`, for the trainer.
        memory: of each container, as Kubernetes writes it.

    Raises ImportError without kfp.
    """
    import yaml
    from kfp import compiler, components, dsl

    @dsl.pipeline(name="casm-tf", description="Data, training, evaluation, validation, push.")
    def pipeline():
        tasks = {}
        for component in graph.COMPONENTS:
            text = yaml.safe_dump(_container(component, parameters[component.name], image))
            inputs = {
                flag: tasks[source].outputs[output]
                for flag, (source, output) in component.inputs.items()
            }
            task = components.load_component_from_text(text)(**inputs)
            task.set_memory_limit(memory)
            if component.name == "Trainer" and gpus:
                task.set_accelerator_type(gpu).set_accelerator_limit(gpus)
            tasks[component.name] = task

    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(pipeline, str(path))


def _container(component, parameters, image):
    """A component as kfp describes one: inputs, outputs, and its program's arguments."""
    inputs = {flag: {"inputPath": flag} for flag in component.inputs}
    outputs = {output: {"outputPath": output} for output in component.outputs}
    return {
        "name": component.name,
        "inputs": [{"name": flag, "type": "Artifact"} for flag in inputs],
        "outputs": [{"name": output, "type": "Artifact"} for output in outputs],
        "implementation": {
            "container": {
                "image": image,
                "command": ["python", "-m", component.module],
                "args": component.arguments(
                    inputs, outputs, parameters, lambda flag, path: {"concat": [f"--{flag}=", path]}
                ),
            }
        },
    }
