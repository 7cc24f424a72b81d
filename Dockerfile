# The image of one unit, `--build-arg UNIT=scores`; `make images` builds all seven.
# UNIT=deploy prepares an installation: secrets, certificates, roles, schemas.
ARG BASE=docker.io/library/python:3.13-slim

# The libraries, the same for every unit. Wheels only, so that no stage needs a compiler.
FROM ${BASE} AS libraries
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_REQUIRE_HASHES=1
COPY requirements-sbom.lock requirements.lock /
RUN python -m venv /tools && /tools/bin/pip install -q -r /requirements-sbom.lock
# Hashes instead of times: the same libraries are the same layer, whenever they were installed.
RUN python -m venv --without-pip /venv \
    && /tools/bin/pip --python /venv/bin/python install -q --no-compile -r /requirements.lock \
    && /venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /venv/lib
RUN /tools/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
    --output-file /venv/sbom.cdx.json /venv/bin/python

# The unit's code and what every unit imports; no other unit's.
FROM libraries AS code
ARG UNIT
COPY . /source
WORKDIR /source
RUN /venv/bin/python -m deploy.images.assemble "$UNIT" /app \
    && /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app

FROM ${BASE}
# The official image brings pip; a running container installs nothing. A new volume that is mounted
# at /etc/scoreboard gets this folder's owner, so that `deploy files` can fill it.
RUN rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip \
    /usr/local/bin/pip* \
    && install -d -m 700 -o 10001 -g 10001 /etc/scoreboard
COPY --from=libraries /venv /venv
WORKDIR /app
# All ports are open to the pod's network, which decides who reaches them. Nothing is written.
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/app \
    HOST=0.0.0.0 PORT=50051 OPS_HOST=0.0.0.0 OPS_PORT=9100
USER 10001:10001
# Runs /app/__main__.py, which runs the unit as process 1, so that it gets SIGTERM.
ENTRYPOINT ["python", "/app"]
COPY --from=code /app /app
ARG UNIT
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="scoreboard/${UNIT}" \
    org.opencontainers.image.description="Live Scoreboard: ${UNIT}" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
