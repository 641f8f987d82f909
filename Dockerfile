# syntax=docker/dockerfile:1

# TORCH_INDEX_URL selects the build of torch. Without it, torch comes from pip's own index: the CUDA
# build, which also runs on a CPU. An index of CPU builds makes the image several gigabytes smaller:
#   docker build --build-arg TORCH_INDEX_URL=<index of torch's CPU builds> .
ARG PYTHON_VERSION=3.11
ARG DEBIAN=bookworm

FROM python:${PYTHON_VERSION}-slim-${DEBIAN} AS build
ARG TORCH_INDEX_URL=""
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv --without-pip /opt/patchserve
COPY pyproject.toml constraints.txt ./
# first torch alone, so that only torch comes from its index, then all other requirements
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
# Triton, which torch for CUDA includes, compiles its driver with a C compiler when it is first used
# hadolint ignore=DL3008
RUN if ls /opt/patchserve/lib/python*/site-packages/triton > /dev/null 2>&1; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends gcc libc6-dev \
        && rm -rf /var/lib/apt/lists/*; \
    fi
COPY docker/healthcheck.py /opt/patchserve/
# the service writes only to /cache (checkpoints from the hub, converted networks, compiled kernels)
# and /tmp (metrics of several replicas): the root file system may be read-only
ENV PATH=/opt/patchserve/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/cache/huggingface \
    XDG_CACHE_HOME=/cache \
    TRITON_CACHE_DIR=/cache/triton \
    PATCHSERVE_HOST=0.0.0.0
VOLUME /cache
# a number, so that an orchestrator can check that it is not root
USER 10001:10001
WORKDIR /home/patchserve
EXPOSE 8000
# process 1 has the flags of the service: `docker run ... serve --port 9000`
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "/opt/patchserve/healthcheck.py", "/proc/1/cmdline"]
ENTRYPOINT ["patchserve"]
CMD ["serve"]
