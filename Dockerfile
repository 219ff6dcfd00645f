# Two images from one file:
#   docker build --target api    -t vitrine-api .      the HTTP service, on the CPU
#   docker build --target worker -t vitrine-worker .   trains and generates, on a CUDA GPU

FROM python:3.12.14-slim-trixie AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    HOME=/tmp
# HOME is the one place that stays writable in a read-only container: CUDA caches kernels there.
# libfribidi0 joins Arabic letters, and draws right-to-left names, on contact sheets.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libfribidi0 \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 vitrine \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin vitrine
WORKDIR /srv/vitrine
# Without the sources beside it, pyproject.toml installs the dependencies alone: this layer is
# rebuilt when they change, not with every edit.
COPY pyproject.toml constraints.txt ./


FROM base AS api
# The address of PyTorch's index of CPU wheels makes this image about 2.5 GB smaller. Empty: the
# default wheel, which carries the CUDA libraries.
ARG TORCH_INDEX_URL=""
RUN pip install -c constraints.txt ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} .
COPY LICENSE NOTICE ./
COPY models models
COPY worker worker
COPY app app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('VITRINE_PORT', '8000')}/health/live\", timeout=4)"]
CMD ["python", "-m", "app"]


FROM base AS worker
# The default Linux wheel of torch brings its CUDA libraries; the host gives the driver alone.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN pip install -c constraints.txt .
COPY LICENSE NOTICE ./
COPY models models
COPY worker worker
USER 10001:10001
CMD ["python", "-m", "worker"]
