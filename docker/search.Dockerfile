# Drives studies, serves the dashboard and heads the Ray cluster: everything of caddie that needs neither torch nor GPU.
# Build from the repository's root: docker build -f docker/search.Dockerfile -t caddie-search .

# The trainer image's Python, to the minor version: Ray passes objects between the two.
FROM python:3.12-slim-bookworm

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

WORKDIR /src
COPY constraints.txt pyproject.toml README.md ./
COPY trainer trainer
COPY spaces spaces
COPY search search
RUN pip install --no-cache-dir -c constraints.txt .

# Volumes take the owner of the folders they are mounted on first.
RUN useradd --uid 10001 --create-home caddie \
    && install -d -o caddie -g caddie /work /work/data /work/runs
USER 10001
WORKDIR /work

CMD ["caddie", "--help"]
