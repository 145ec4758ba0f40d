# `wavellama serve` in a container, on CPUs and GPUs, or with a smaller image on CPUs alone:
#
#   docker build -t wavellama .
#   docker build -t wavellama:cpu --build-arg TORCH_INDEX=URL .   # PyTorch's index of CPU-only wheels
#
# docs/server.md says how to run it.

FROM python:3.11-slim AS build
ARG TORCH_INDEX=
WORKDIR /source
RUN python -m venv /opt/wavellama
ENV PATH=/opt/wavellama/bin:$PATH
COPY constraints.txt ./
# A layer of its own: this is most of the image, and changes least. fairseq2's native library wants
# the one library of CUDA's even where nothing runs on a GPU.
RUN if [ -n "$TORCH_INDEX" ]; then \
      pip install --no-cache-dir --constraint constraints.txt --no-deps --index-url "$TORCH_INDEX" torch torchaudio \
      && pip install --no-cache-dir --constraint constraints.txt nvidia-cuda-runtime-cu12; \
    else \
      pip install --no-cache-dir --constraint constraints.txt torch torchaudio; \
    fi
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt '.[server]'

FROM python:3.11-slim
COPY --from=build /opt/wavellama /opt/wavellama
RUN useradd --create-home --uid 1000 wavellama && install -d -o wavellama /cache /data
USER wavellama
WORKDIR /data
# Models that are downloaded stay in /cache; mount a volume there to keep them. With fewer arenas the
# C library keeps less memory that nobody uses.
ENV PATH=/opt/wavellama/bin:$PATH FAIRSEQ2_CACHE_DIR=/cache MALLOC_ARENA_MAX=2
VOLUME /cache
EXPOSE 8000
HEALTHCHECK --start-period=600s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["wavellama"]
CMD ["serve", "--host", "0.0.0.0"]
