#!/usr/bin/env bash
# The training step of polyview and of PyTorch by turns, so that what else the machine does weighs
# on both: prints the medians over all steps, and their ratio.
#
#     [PYTHON=venv/bin/python POLYVIEW=target/debug/polyview ROUNDS=2] scripts/compare.sh [OPTIONS]
#
# OPTIONS go to `polyview bench` and `baseline_torch.py step` alike: --backbone-name, --clips,
# --frames-per-clip, --img-height, --img-width, --steps. DEVICE (default cpu) is polyview's,
# TORCH_DEVICE (default cpu) PyTorch's. Each side has all cores, or as many as THREADS says.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
polyview=${POLYVIEW:-$here/../target/debug/polyview}
python=${PYTHON:-python3}
threads=${THREADS:-$(nproc)}
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

for round in $(seq "${ROUNDS:-2}"); do
    RAYON_NUM_THREADS=$threads "$polyview" bench --device "${DEVICE:-cpu}" --json "$@" \
        > "$results/polyview.$round"
    "$python" "$here/baseline_torch.py" step --device "${TORCH_DEVICE:-cpu}" \
        --threads "$threads" --json "$@" > "$results/torch.$round"
done

python3 - "$results" <<'END'
import json, pathlib, statistics, sys

def all_steps(name):
    files = sorted(pathlib.Path(sys.argv[1]).glob(name + ".*"))
    runs = [json.loads(file.read_text()) for file in files]
    return runs[0], [ms for run in runs for ms in run["steps_ms"]]

run, ours = all_steps("polyview")
torch, theirs = all_steps("torch")
ours, theirs = statistics.median(ours), statistics.median(theirs)
print(f"{run['backbone']} {'×'.join(map(str, run['shape']))}: polyview ({run['device']['name']})"
      f" {ours:.0f} ms, PyTorch {torch['torch']} ({torch['device']}) {theirs:.0f} ms a step:"
      f" polyview takes {ours / theirs:.2f}× the time")
END
