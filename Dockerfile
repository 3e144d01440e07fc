# CPU image of `maya serve` with the bundled models (about 3 GB, half of it models). docs/deploy.md has the rest.
#   docker build -t maya .
#   docker run -p 127.0.0.1:8080:8080 --read-only --tmpfs /tmp -v maya-calls:/srv/maya/calls \
#     -e TWILIO_AUTH_TOKEN -e MAYA_PUBLIC_URL=https://maya.example.com -e MAYA_HOST=0.0.0.0 maya
# MAYA_HOST: inside a container loopback is reached by nobody. The port is published to the proxy with TLS alone.
# llama.cpp is built for AVX2 processors (any x86-64 server since 2015), not for the machine that builds the image.
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ make python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock pyproject.toml README.md maya.py ./
# First, and alone: the one step that compiles is repeated only when a version changes.
RUN python3 -m venv /opt/maya \
    && CMAKE_ARGS="-DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF -DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON" \
       /opt/maya/bin/pip install --no-cache-dir --no-binary llama-cpp-python \
       "$(grep -E '^llama[_-]cpp[_-]python==' requirements.lock)" -c requirements.lock
COPY telephony telephony
COPY pipeline pipeline
COPY models models
COPY infra infra
COPY bench bench
ARG EXTRAS=speech,records,postgres,traces
RUN /opt/maya/bin/pip install --no-cache-dir -c requirements.lock ".[$EXTRAS]" \
    && MAYA_MODELS=/opt/models /opt/maya/bin/maya models pull --profile embedded

FROM ${BASE}
# OpenMP's runtime, which llama.cpp and CTranslate2 link to.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /srv/maya maya \
    && install -d -o maya -g maya -m 0700 /srv/maya/calls
COPY --from=build /opt/maya /opt/maya
COPY --from=build /opt/models /opt/models
# All that is written goes to /srv/maya/calls and /tmp, so that the rest may be mounted read-only.
ENV PATH=/opt/maya/bin:$PATH MAYA_MODELS=/opt/models PORT=8080 XDG_CACHE_HOME=/tmp/cache \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# By number: Kubernetes' runAsNonRoot knows no names.
USER 10001:10001
WORKDIR /srv/maya
VOLUME /srv/maya/calls
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=120s --interval=15s --timeout=5s CMD ["python", "-m", "infra.deploy.healthcheck"]
CMD ["maya", "serve"]
