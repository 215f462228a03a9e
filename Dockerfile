# One image for both programs; the first argument says which: router or sidecar.
#
# BASE may be any image with apt-get whose packages have Python 3.11 or newer: Debian 12 and 13,
# Ubuntu 24.04. One that brings a llama-server in /app makes an image for GPUs:
#   docker build --build-arg BASE=ghcr.io/ggml-org/llama.cpp:server-cuda .    # NVIDIA
#   docker build --build-arg BASE=ghcr.io/ggml-org/llama.cpp:server-rocm .    # AMD
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS packages
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY router router
COPY shared shared
COPY sidecar sidecar
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir -c requirements.lock ".[embedded]" \
    && /opt/venv/bin/pip uninstall -y pip setuptools \
    && find /opt/venv -type d -name tests -prune -exec rm -r {} +

FROM ${BASE}
LABEL org.opencontainers.image.title="swapyard" \
      org.opencontainers.image.description="Every model on every GPU box behind one endpoint, and the truth while you wait." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# The folders are made here because a named volume takes its owner from the folder it covers.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 libgomp1 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 swapyard \
    && useradd --uid 10001 --gid 10001 --home-dir /state --no-create-home --shell /usr/sbin/nologin swapyard \
    && install -d -o swapyard -g swapyard -m 0700 /state \
    && install -d -o swapyard -g swapyard /demo
COPY --from=packages /opt/venv /opt/venv
COPY deploy/image/start.py deploy/image/health.py examples/demo/make_models.py /opt/swapyard/
# llama.cpp's images say 0.0.0.0, and engines are for their sidecar alone.
ENV PATH=/opt/venv/bin:$PATH:/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LLAMA_ARG_HOST=127.0.0.1
WORKDIR /etc/swapyard
USER 10001:10001
EXPOSE 8080 8090
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "/opt/swapyard/health.py", \
    "http://127.0.0.1:8080/healthz", "http://127.0.0.1:8090/healthz"]
ENTRYPOINT ["python", "/opt/swapyard/start.py"]
CMD ["router"]
