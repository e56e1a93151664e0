#!/usr/bin/env bash
# Times the training step of polyview and of PyTorch alternately, so that other load on the machine
# affects both, and prints the medians over all steps and their ratio.
#
#     [PYTHON=venv/bin/python POLYVIEW=target/debug/polyview ROUNDS=2] scripts/compare.sh [OPTIONS]
#
# OPTIONS go to `polyview bench` and `baseline_torch.py` alike: --backbone-name, --clips,
# --frames-per-clip, --img-height, --img-width, --steps, --precision (f32, f16 or auto; PyTorch's f16
# is autocast with a gradient scaler, and slow on CPUs). With --layers, the passes of each convolution
# are compared as well, sorted by how much their slowness costs (ratio times time); for each side the
# smallest median of all rounds counts, because other load can only add to it. DEVICE (default cpu) is
# polyview's, TORCH_DEVICE (default cpu) PyTorch's. Each side uses all cores, or THREADS threads; on a
# busy machine THREADS=1 is fairer, because PyTorch's threads wait for each other more.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
polyview=${POLYVIEW:-$here/../target/debug/polyview}
python=${PYTHON:-python3}
# macOS has no nproc.
threads=${THREADS:-$(nproc 2>/dev/null || sysctl -n hw.ncpu)}
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# Bash 3.2, which macOS has, treats an empty array as unset: hence the `${x[@]+...}` below.
layers=()
options=()
for option in "$@"; do
    if [[ "$option" == --layers ]]; then layers=(--layers); else options+=("$option"); fi
done
torch() {
    "$python" "$here/baseline_torch.py" "$1" --device "${TORCH_DEVICE:-cpu}" \
        --threads "$threads" --json ${options[@]+"${options[@]}"}
}

for round in $(seq "${ROUNDS:-2}"); do
    RAYON_NUM_THREADS=$threads "$polyview" bench --device "${DEVICE:-cpu}" --json \
        ${layers[@]+"${layers[@]}"} ${options[@]+"${options[@]}"} > "$results/polyview.$round"
    torch step > "$results/torch.$round"
    if [[ -n "${layers[0]-}" ]]; then torch layers > "$results/layers.$round"; fi
done

"$python" - "$results" <<'END'
import json, pathlib, statistics, sys

def runs(name):
    files = sorted(pathlib.Path(sys.argv[1]).glob(name + ".*"))
    return [json.loads(file.read_text()) for file in files]

def step(runs):
    return statistics.median(ms for run in runs for ms in run["steps_ms"])

def passes(runs):
    """Returns the milliseconds of the best round by (shape, pass), and how often each shape occurs."""
    times, counts = {}, {}
    for run in runs:
        for layer in run.get("layers", []):
            counts[layer["shape"]] = layer["count"]
            for name, ms in zip(["forward", "dx", "dw"], layer["ms"]):
                times.setdefault((layer["shape"], name), []).append(ms)
    return {key: min(ms) for key, ms in times.items()}, counts

ours, theirs = runs("polyview"), runs("torch")
run, torch = ours[0], theirs[0]
ratio = step(ours) / step(theirs)
print(f"{run['backbone']} {'×'.join(map(str, run['shape']))}: polyview ({run['device']['name']},"
      f" {run['precision']}) {step(ours):.0f} ms, PyTorch {torch['torch']} ({torch['device']},"
      f" {torch['precision']}) {step(theirs):.0f} ms a step:"
      f" polyview takes {ratio:.2f}× the time")

(mine, counts), (other, other_counts) = passes(ours), passes(runs("layers"))
if mine and counts != other_counts:
    sys.exit(f"the two networks differ: {sorted(counts.items() ^ other_counts.items())}")
rows = [(mine[key] / other[key], *key, mine[key], other[key]) for key in mine]
rows.sort(key=lambda row: -row[0] * row[3] * counts[row[1]])
if rows:
    print(f"\n{'convolution':46} {'times':>5} {'pass':8} {'polyview':>10} {'PyTorch':>10} {'ratio':>6}")
for ratio, shape, name, ms, torch_ms in rows:
    print(f"{shape:46} {counts[shape]:5} {name:8} {ms:7.2f} ms {torch_ms:7.2f} ms {ratio:6.2f}")
if rows:
    total, torch_total = (sum(ms * counts[key[0]] for key, ms in of.items()) for of in (mine, other))
    slower = sum(row[0] > 1 for row in rows)
    print(f"together {total:.0f} ms, PyTorch {torch_total:.0f} ms ({total / torch_total:.2f}); "
          f"{slower} of {len(rows)} passes are slower than PyTorch's")
END
