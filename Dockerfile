# syntax=docker/dockerfile:1

# TORCH_INDEX_URL decides which torch goes in. Empty, it comes from pip's own index, whose Linux build
# brings CUDA along and runs on a CPU as well. The address of an index of CPU builds leaves those
# gigabytes out:
#   docker build --build-arg TORCH_INDEX_URL=<index of torch's CPU builds> .
ARG PYTHON_VERSION=3.11
ARG DEBIAN=bookworm

FROM python:${PYTHON_VERSION}-slim-${DEBIAN} AS build
ARG TORCH_INDEX_URL=""
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv --without-pip /opt/patchserve
COPY pyproject.toml constraints.txt ./
# torch alone, then what it and the service ask for: only torch itself is taken from its own index
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/patchserve install --constraint constraints.txt --no-deps \
        ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch \
    && python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > requirements.txt \
    && pip --python /opt/patchserve install --constraint constraints.txt --requirement requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt hatchling
COPY README.md LICENSE ./
COPY models models
COPY app app
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/patchserve install --no-cache-dir --no-deps /wheels/*.whl

FROM python:${PYTHON_VERSION}-slim-${DEBIAN}
RUN groupadd --gid 10001 patchserve \
    && useradd --uid 10001 --gid 10001 --create-home patchserve \
    && install --directory --owner patchserve --group patchserve /cache
COPY --from=build /opt/patchserve /opt/patchserve
# all that is written is in /cache (checkpoints from the hub, converted networks, compiled kernels) and
# /tmp (what replicas count): the rest may be read-only
ENV PATH=/opt/patchserve/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/cache/huggingface \
    XDG_CACHE_HOME=/cache \
    TRITON_CACHE_DIR=/cache/triton \
    PATCHSERVE_HOST=0.0.0.0
VOLUME /cache
# by number, so that an orchestrator can tell it is not root
USER 10001:10001
WORKDIR /home/patchserve
EXPOSE 8000
# not urllib: a proxy of the environment must not stand between the probe and the service
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('PATCHSERVE_OPS_PORT') or 0) or int(os.environ.get('PATCHSERVE_PORT', 8000)), timeout=2); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["patchserve"]
CMD ["serve"]
