"""The package; tools are configured in pyproject.toml, exact versions stand in constraints.txt."""

from setuptools import find_packages, setup

setup(
    name="casm_tf",
    version="0.1.0",
    description="Classifier-agnostic saliency map extraction in TensorFlow and Keras",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["casm_tf", "casm_tf.*", "components"]),
    package_data={
        "casm_tf.data": ["tiny_imagenet.txt"],
        "casm_tf.report": ["page.css"],
        "casm_tf.pretrained": ["*.txt", "*.md", "photographs/**"],
    },
    install_requires=[
        "absl-py",
        "importlib_resources",  # tensorflow-datasets imports it without declaring it
        "h5py",
        "keras>=3.15",
        "matplotlib",
        "opencv-python-headless",
        "pillow",
        "scikit-image",
        "scikit-learn",
        "tensorboard>=2.21,<2.22",
        "tensorflow>=2.21,<2.22",
        "tensorflow-datasets>=4.9.10",
        "tensorflow-metadata",
        "tqdm",
    ],
    extras_require={
        "cluster": ["kfp==2.17.0"],  # in a venv of its own: it needs protobuf below 7
        "convert": ["safetensors", "torch"],
        "docs": ["mkdocs-material", "mkdocstrings[python]"],
        "openvino": ["openvino"],  # another runtime, for its test
        "serving": ["tensorflow-serving-api>=2.21,<2.22"],  # requests to warm up with
        "test": [
            *("hypothesis", "pytest", "pytest-xdist", "ruff"),
            "tensorflow-serving-api>=2.21,<2.22",  # the stand-in server's stubs
        ],
    },
)
