# hidiff_monai with its bundles, for a CPU or an NVIDIA GPU: docs/docker.md

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# cuda: what pip takes by itself on x86-64. cpu: give the index of PyTorch's CPU builds too, a fifth of the size.
ARG DEVICE=cuda
ARG TORCH_INDEX_URL=
ARG EXTRAS=dicom,tracking
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/environment
ENV PATH=/opt/environment/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/hidiff_monai
COPY constraints.txt ./
RUN pip install -c constraints.txt ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch \
    && python -c "import sys, torch; cuda = torch.version.cuda; sys.exit((cuda is None) != ('${DEVICE}' == 'cpu') and \
       f'got torch for CUDA {cuda}, expected DEVICE=${DEVICE}: set TORCH_INDEX_URL to the index of such builds')"
COPY LICENSE README.md pyproject.toml setup.py ./
COPY hidiff_monai hidiff_monai
RUN pip install -c constraints.txt -e ".[${EXTRAS}]" \
    && python hidiff_monai/ops/build.py
COPY data_lists data_lists
COPY bundles bundles

FROM python:${PYTHON}-slim
COPY --from=build /opt/environment /opt/environment
COPY --from=build /opt/hidiff_monai /opt/hidiff_monai
ENV PATH=/opt/environment/bin:$PATH NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --create-home --uid 1000 --user-group hidiff \
    && install --directory --owner hidiff --group hidiff /workspace
USER 1000:1000
WORKDIR /workspace
CMD ["hidiff", "env"]
