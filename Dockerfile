# One image per service, all from this file:
#
#   docker build --build-arg SERVICE=email_worker -t streammesh/email_worker .
#
# BASE_IMAGE  any image with Python >= 3.11, pip and venv; nothing else is taken from it
# SERVICE     the folder's name
# ROOM        where the folder is: services/ (teams' and the mesh's own), or deploy/ (Flower, the tools)
ARG BASE_IMAGE=python:3.13-slim

# The kit as a wheel: the same for every service, so it is made once. Its build tools come from the lock.
FROM ${BASE_IMAGE} AS kit
RUN python3 -m venv /build
WORKDIR /source
COPY deploy/image/install_locked.py requirements.lock shared/pyproject.toml ./
RUN /build/bin/python install_locked.py --lock requirements.lock pyproject.toml
COPY shared/ ./
RUN /build/bin/pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /wheels .

# What this service needs, each file checked against the lock. The kit comes last: it changes most often.
FROM ${BASE_IMAGE} AS builder
RUN python3 -m venv /venv
WORKDIR /source
COPY deploy/image/install_locked.py requirements.lock shared/pyproject.toml ./
ARG SERVICE
ARG ROOM=services
COPY ${ROOM}/${SERVICE}/requirements.txt ./
RUN /venv/bin/python install_locked.py --lock requirements.lock --kit pyproject.toml requirements.txt
COPY --from=kit /wheels/ /wheels/
RUN /venv/bin/pip install --quiet --no-deps --no-index /wheels/*.whl \
    && /venv/bin/pip check \
    && /venv/bin/pip uninstall --quiet --yes pip

# What runs: the environment, and one service's folder.
FROM ${BASE_IMAGE}
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MESH_HEALTH_HOST=0.0.0.0 \
    MESH_HEALTH_PORT=8090
# A user with a name, since Celery warns of one without. A volume mounted on the folder for the first time takes
# over its owner, so the report store is writable.
RUN echo 'mesh:x:10001:10001::/nonexistent:/bin/false' >> /etc/passwd \
    && echo 'mesh:x:10001:' >> /etc/group \
    && install -d -o 10001 -g 10001 /var/lib/streammesh
WORKDIR /app
COPY --from=builder /venv/ /venv/
COPY services/__init__.py services/
COPY deploy/image/start.py deploy/image/healthy.py ./
ARG SERVICE
ARG ROOM=services
COPY ${ROOM}/${SERVICE}/ services/${SERVICE}/
RUN python -m compileall -q /app
# /livez and /readyz of whatever service this is. Compose and Kubernetes bring probes of their own.
HEALTHCHECK --interval=10s --timeout=4s --start-period=60s CMD ["python", "/app/healthy.py"]
USER 10001:10001
ENTRYPOINT ["/venv/bin/python", "/app/start.py"]
