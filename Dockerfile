# CPU image of `maya serve` with the bundled models (about 2 GB, most of it models).
#   docker build -t maya .
#   docker run -p 8080:8080 -e TWILIO_AUTH_TOKEN -e MAYA_PUBLIC_URL=https://maya.example.com -v maya-calls:/srv/maya/calls maya
# llama.cpp is built for AVX2 processors (any x86-64 server since 2015), not for the machine that builds the image.
FROM python:3.12-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock pyproject.toml README.md maya.py ./
RUN python -m venv /opt/maya \
    && CMAKE_ARGS="-DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF -DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON" \
       /opt/maya/bin/pip install --no-cache-dir "$(grep -E '^llama[_-]cpp[_-]python==' requirements.lock)" -c requirements.lock
COPY telephony telephony
COPY pipeline pipeline
COPY models models
COPY infra infra
COPY bench bench
RUN /opt/maya/bin/pip install --no-cache-dir -c requirements.lock ".[speech]" \
    && MAYA_MODELS=/opt/models /opt/maya/bin/maya models pull --profile embedded

FROM python:3.12-slim-bookworm
# OpenMP's runtime, which llama.cpp and CTranslate2 link to.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --home-dir /srv/maya maya && mkdir /srv/maya/calls && chown maya: /srv/maya/calls
COPY --from=build /opt/maya /opt/maya
COPY --from=build /opt/models /opt/models
ENV PATH=/opt/maya/bin:$PATH MAYA_MODELS=/opt/models PORT=8080 PYTHONUNBUFFERED=1
USER maya
WORKDIR /srv/maya
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=60s --interval=15s CMD python -c "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/readyz', timeout=3)"
CMD ["maya", "serve"]
