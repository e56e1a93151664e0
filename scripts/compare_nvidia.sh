#!/usr/bin/env bash
# The training step on an NVIDIA card in five ways, in turn: polyview through Vulkan and through CUDA,
# PyTorch in f32 without TF32, with TF32, and in bf16. Prints the median of all steps of each.
#
#     [PYTHON=venv/bin/python POLYVIEW=target/debug/polyview ROUNDS=2] scripts/compare_nvidia.sh [OPTIONS]
#
# POLYVIEW is a build with `--features cuda`, which has both. OPTIONS go to `polyview bench` and
# `baseline_torch.py` alike: --backbone-name, --clips, --frames-per-clip, --img-height, --img-width,
# --steps. DEVICES (default "vulkan cuda") and TORCH_DEVICE (default cuda) say what is timed.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
polyview=${POLYVIEW:-$here/../target/debug/polyview}
python=${PYTHON:-python3}
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

for round in $(seq "${ROUNDS:-2}"); do
    for device in ${DEVICES:-vulkan cuda}; do
        "$polyview" bench --device "$device" --json "$@" > "$results/polyview, $device.$round"
    done
    for precision in f32 tf32 bf16; do
        "$python" "$here/baseline_torch.py" step --device "${TORCH_DEVICE:-cuda}" \
            --precision "$precision" --json "$@" > "$results/PyTorch, $precision.$round"
    done
done

python3 - "$results" <<'END'
import json, pathlib, statistics, sys

runs = {}
for file in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    runs.setdefault(file.stem, []).append(json.loads(file.read_text()))
medians = {
    name: statistics.median(ms for run in rounds for ms in run["steps_ms"])
    for name, rounds in runs.items()
}
fastest = min(medians.values())
for name, ms in sorted(medians.items(), key=lambda way: way[1]):
    run = runs[name][0]
    device = run["device"]["name"] if isinstance(run["device"], dict) else run["device"]
    clips = run["shape"][0]
    print(f"{name:18} {ms:9.2f} ms {clips / ms * 1e3:8.1f} clips/s  {ms / fastest:5.2f}×  ({device})")
END
