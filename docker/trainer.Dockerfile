# Runs trainings on a host with NVIDIA GPUs, as a worker of the Ray cluster. Needs the NVIDIA container toolkit and a
# driver that knows CUDA 13 (580 or newer).
# Build from the repository's root: docker build -f docker/trainer.Dockerfile -t caddie-trainer .

# torch comes with the image, in the version our GPU measurements were taken with. devel has the compiler that
# torch.compile and Triton call.
FROM pytorch/pytorch:2.11.0-cuda13.0-cudnn9-devel

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

# Triton compiles against Python.h. Ubuntu keeps one version of each on its mirrors, so there is none to pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# An environment of our own that sees the image's torch: its Python belongs to the system and refuses installs.
RUN python3 -m venv --system-site-packages /opt/caddie
ENV PATH=/opt/caddie/bin:$PATH

WORKDIR /src
COPY constraints.txt pyproject.toml README.md ./
COPY trainer trainer
COPY spaces spaces
COPY search search
# Further extras: --build-arg EXTRAS=trainer,flash
ARG EXTRAS=trainer
# Our versions of everything but torch, which stays the image's.
RUN sed '/^torch==/d' constraints.txt > /tmp/constraints.txt \
    && python -c 'import torch; print("torch==" + torch.__version__)' >> /tmp/constraints.txt \
    && pip install --no-cache-dir -c /tmp/constraints.txt ".[${EXTRAS}]"
# Stop here, not in the first run, where Ray would refuse this Python or torch came without CUDA.
RUN python -c 'import sys, torch; assert sys.version_info[:2] == (3, 12), sys.version; assert torch.version.cuda'

# Volumes take the owner of the folders they are mounted on first.
RUN useradd --uid 10001 --create-home caddie \
    && install -d -o caddie -g caddie /work /work/data /work/runs
USER 10001
WORKDIR /work

CMD ["caddie", "doctor"]
