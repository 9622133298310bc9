# baco_gpu for an NVIDIA GPU with a driver for CUDA 13 (580 or later):
#
#     docker build -t baco_gpu .
#     docker run --rm --gpus all -v "$PWD:/work" -w /work baco_gpu compress clicks.parquet --out codes.safetensors
#
# The base image brings CUDA's runtime, PyTorch its own copy of the libraries that it needs, and NVRTC compiles the kernels
# on their first use; mount a folder at /cache to keep them from one container to the next.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/baco

ENV PATH=/opt/baco/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/cache \
    NUMBA_CACHE_DIR=/cache/numba

COPY setup.cfg pyproject.toml README.md LICENSE /src/
COPY baco_gpu /src/baco_gpu
COPY kernels /src/kernels

RUN pip install --no-cache-dir '/src[cuda13,baselines]'

RUN useradd --uid 10001 --create-home baco && install --directory --owner=baco /cache
USER 10001

ENTRYPOINT ["baco"]
CMD ["--help"]
