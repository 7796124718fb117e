# cvpipe on the CPU.
#
#     docker build --tag cvpipe .
#     docker run --rm cvpipe                                          # make train
#     docker run --rm -it cvpipe bash                                 # any other command
#     docker run --rm -p 8501:8501 cvpipe \
#         bash -c 'make train && cvpipe serve saved_models --host 0.0.0.0'
FROM python:3.12-slim

# Debian removes old versions of make from its mirrors, so the version isn't pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends --yes make \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 cvpipe \
    && useradd --create-home --uid 1000 --gid 1000 cvpipe \
    && install --directory --owner=1000 --group=1000 /cvpipe

USER 1000:1000
WORKDIR /cvpipe
ENV PATH="/cvpipe/.venv/bin:$PATH" \
    PIP_NO_CACHE_DIR=1

# Dependencies have their own layer, which stays cached when cvpipe's code changes.
COPY --chown=1000:1000 Makefile setup.cfg pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY --chown=1000:1000 cvpipe/__init__.py cvpipe/
RUN make setup

COPY --chown=1000:1000 cvpipe cvpipe
COPY --chown=1000:1000 pipelines pipelines

EXPOSE 8501
CMD ["make", "train"]
