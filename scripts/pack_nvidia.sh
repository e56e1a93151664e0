#!/usr/bin/env bash
# Packs everything needed to time the training step on a Linux machine with an NVIDIA card: a dev build
# with Vulkan and CUDA, `compare_nvidia.sh` and `baseline_torch.py`. Prints the folder's size.
#
#     scripts/pack_nvidia.sh [FOLDER=.gpu]
#
# Copy the folder to that machine, whose C library must not be older than this one's, and run there:
#
#     xz -d polyview-cuda.xz
#     POLYVIEW=./polyview-cuda RESULTS=results ./compare_nvidia.sh --backbone-name r2plus1d_18 \
#         --clips 8 --frames-per-clip 16 --steps 20
#
# This times Vulkan, CUDA, and PyTorch in f32, TF32, bf16 and f16 in one call; PYTHON names a Python that
# has torch and torchvision. Vulkan needs the driver, the loader (libvulkan1) and libegl1 libgl1 libxcb1.
# CUDA needs the driver, NVRTC and the toolkit's headers. Without a toolkit, PyTorch's wheels for CUDA 13
# contain all of these except what `pip install nvidia-cuda-crt` adds (in the version of
# nvidia-cuda-runtime):
#
#     export CUDA_PATH=venv/lib/python3.12/site-packages/nvidia/cu13 LD_LIBRARY_PATH=$CUDA_PATH/lib
set -euo pipefail

folder=${1:-$(dirname "$0")/../.gpu}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$(dirname "$0")/.."

cargo build --bin polyview --features cuda
strip -o "$folder/polyview-cuda" "${CARGO_TARGET_DIR:-target}/debug/polyview"
xz -3 -f "$folder/polyview-cuda"
cp scripts/compare_nvidia.sh scripts/baseline_torch.py "$folder"
du -sh "$folder"
