# The image of every Ray pod. The base is a GPU image with glibc (e.g. one of CUDA's runtime images), given by name and digest:
#   docker build --build-arg BASE=registry/name --build-arg BASE_DIGEST=sha256:... -t fusechat .
# torch and vLLM carry CUDA's libraries in their wheels; the base brings what the driver's container runtime looks for.
ARG BASE
ARG BASE_DIGEST
FROM ${BASE}@${BASE_DIGEST} AS build
ARG UV_VERSION=0.13.9
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir "uv==${UV_VERSION}"
ENV PATH=/opt/uv/bin:${PATH} UV_PYTHON_INSTALL_DIR=/opt/python UV_NO_CACHE=1
COPY docker/install.sh /src/docker/install.sh
COPY requirements/image.lock /src/requirements/image.lock
COPY pyproject.toml README.md LICENSE /src/
COPY fusechat /src/fusechat
COPY pipeline /src/pipeline
COPY services /src/services
COPY training /src/training
RUN uv python install 3.11 && sh /src/docker/install.sh /opt/fusechat /src/requirements/image.lock /src

FROM ${BASE}@${BASE_DIGEST}
COPY --from=build /opt/python /opt/python
COPY --from=build /opt/fusechat /opt/fusechat
ENV PATH=/opt/fusechat/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
WORKDIR /opt/fusechat
# By number, so that Kubernetes sees that it is not root.
USER 10001:10001
CMD ["fusechat", "--help"]
