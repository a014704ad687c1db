"""One of several processes that train together: python tests/worker.py DIRECTORY [THINNING]

Trains ten steps as tests/test_replicas.py does, the same global batch on all workers of TF_CONFIG.
"""

import pathlib
import sys

import casm_tf.host.quiet  # noqa: F401

# isort: split

from casm_tf.training import devices

if __name__ == "__main__":
    strategy = devices.make("auto")  # before anything that TensorFlow does

    import tiny_casm

    from casm_tf import networks

    networks.RESNETS["tiny"] = tiny_casm.TINY
    tiny_casm.trained(pathlib.Path(sys.argv[1]), sys.argv[2], strategy)
    devices.wait_for_all(strategy)
