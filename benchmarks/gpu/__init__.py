"""The training step on a GPU without TensorFlow there; README.md has the commands."""
