"""What TensorFlow Serving can be given beside a model: which models there are, and batching."""

import pathlib

from casm_tf.host import files

# Both are protocol buffers in text form, ModelServerConfig and BatchingParameters.
_MODELS = """\
# tensorflow_model_server --model_config_file=/models/models.config
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""
_BATCHING = """\
# tensorflow_model_server --enable_batching
#     --batching_parameters_file=/models/batching_parameters.txt
# Requests that come within two milliseconds are answered by one forward pass; with one client at a
# time it only costs these. Threads: as many as the machine has cores, or 1 with a GPU.
max_batch_size { value: 16 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 4 }
"""


def write(serving_dir, name):
    """Write models.config and batching_parameters.txt for a model that is served as `name`.

    Paths are those in TensorFlow Serving's container, with `serving_dir` at /models. A file that is
    there already stays as it is: somebody may have changed it. Raises OSError.
    """
    serving_dir = pathlib.Path(serving_dir)
    texts = {"models.config": _MODELS.format(name=name), "batching_parameters.txt": _BATCHING}
    for file_name, text in texts.items():
        path = serving_dir / file_name
        if not path.exists():
            with files.replacing(path) as unfinished:
                unfinished.write_text(text)
