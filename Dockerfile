# The components' image, for the file of `python -m components.pipeline --compile`. Not built here.
# For GPUs: tensorflow[and-cuda] in place of tensorflow, on a host with NVIDIA's container runtime.
FROM python:3.11-slim
WORKDIR /casm_tf
COPY setup.py pyproject.toml constraints.txt ./
COPY casm_tf casm_tf
COPY components components
COPY configs configs
RUN pip install --no-cache-dir --constraint constraints.txt '.[serving]'
