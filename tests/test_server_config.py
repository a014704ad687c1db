"""The server's files, read by its own protocol buffers."""

import pytest
from google.protobuf import text_format

from casm_tf.serving import server_config


def test_models_config_names_the_model(tmp_path):
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    server_config.write(tmp_path, "casm")
    found = text_format.Parse((tmp_path / "models.config").read_text(), config.ModelServerConfig())
    (model,) = found.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (
        "casm",
        "/models/casm",
        "tensorflow",
    )
    assert model.model_version_policy.latest.num_versions == 1


def test_batching_has_the_four_parameters(tmp_path):
    server_config.write(tmp_path, "casm")
    lines = (tmp_path / "batching_parameters.txt").read_text().splitlines()
    names = [line.split()[0] for line in lines if not line.startswith("#")]
    assert names == [
        "max_batch_size",
        "batch_timeout_micros",
        "max_enqueued_batches",
        "num_batch_threads",
    ]


def test_what_somebody_changed_stays(tmp_path):
    (tmp_path / "models.config").write_text("changed")
    server_config.write(tmp_path, "casm")
    assert (tmp_path / "models.config").read_text() == "changed"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "batching_parameters.txt",
        "models.config",
    ]
