"""One case for PyTorch's networks and ours: weights, images and a training step, out of numpy."""

import numpy as np

from casm_tf.networks import conversion

RATE = 3e-3
CLASSES = 10


def random_state(shapes, seed):
    """Weights and statistics for {name: shape} with which nothing explodes and no mask saturates.

    A block's last gamma is smaller, or a gradient grows with every block and one in float32 is off
    by several percent, in PyTorch as here.
    """
    # The streams of RandomState are frozen, those of default_rng are not.
    random = np.random.RandomState(seed)
    state = {}
    for name, shape in shapes.items():
        if len(shape) == 4:
            values = random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        elif len(shape) == 2:
            values = random.normal(0, 2 / shape[1] ** 0.5, shape)
        elif name.endswith("running_var"):
            values = random.uniform(0.5, 2, shape)
        elif name.endswith("bn3.weight"):
            values = random.uniform(0.1, 0.3, shape)
        elif name.endswith(".weight"):
            values = random.uniform(0.3, 0.9, shape)
        else:
            values = random.normal(0, 0.1, shape)
        state[name] = values.astype(np.float32)
    return state


def batch():
    """Two images, their labels, and what their masks are weighted with in the loss."""
    random = np.random.RandomState(2)
    images, weights = random.normal(size=(2, 224, 224, 3)), random.normal(size=(2, 224, 224, 1))
    return images.astype(np.float32), np.array([3, 7]), weights.astype(np.float32)


def updates(before, after):
    """The norm of what a step added to each array."""
    return {name: float(np.linalg.norm(after[name] - before[name])) for name in before}


def torch_shapes(model):
    to_torch = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    return {
        name: tuple(v.shape[axis] for axis in to_torch[len(v.shape)])
        for name, v in conversion.torch_variables(model).items()
    }


def random_of(model, seed):
    return random_state(torch_shapes(model), seed)


def state_dict(model):
    """A model's weights as torch has them."""
    to_torch = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    return {
        name: np.transpose(v.numpy(), to_torch[len(v.shape)])
        for name, v in conversion.torch_variables(model).items()
    }
