#!/usr/bin/env bash
# Times the training step on an NVIDIA card in seven ways, in turn: polyview through Vulkan in f32 and
# f16, and through CUDA; PyTorch in f32 without TF32, with TF32, in bf16 and f16. Prints the median over
# all steps of each.
#
#     [PYTHON=venv/bin/python POLYVIEW=target/debug/polyview ROUNDS=2] scripts/compare_nvidia.sh [OPTIONS]
#
# POLYVIEW is a build with `--features cuda`, which has both; `scripts/pack_nvidia.sh` packs one for
# another machine. OPTIONS go to `polyview bench` and `baseline_torch.py` alike: --backbone-name,
# --clips, --frames-per-clip, --img-height, --img-width, --steps. DEVICES (default "vulkan cuda") and
# TORCH_DEVICE (default cuda; others have no TF32, and f16 is left out) select what is timed.
# RESULTS names a new folder in which the JSON and the messages of every run are kept.
#
# If one way fails, it is reported with the reason and the others continue; the exit status is then 1.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
polyview=${POLYVIEW:-$here/../target/debug/polyview}
python=${PYTHON:-python3}
torch_device=${TORCH_DEVICE:-cuda}
# macOS has no nproc.
threads=$(nproc 2>/dev/null || sysctl -n hw.ncpu)
if [[ -n "${RESULTS-}" ]]; then
    results=$RESULTS
    mkdir "$results"
else
    results=$(mktemp -d)
    trap 'rm -rf "$results"' EXIT
fi

# Prints the line of a failed run's messages that gives the reason. PyTorch's error may continue for
# several lines, and a note may follow a panic.
reason() {
    grep -E '^[A-Za-z_.]+(Error|Exception): ' "$1" | tail -n 1 | grep . ||
        grep -v '^note: ' "$1" | grep . | tail -n 1 | sed 's/^error: //' ||
        echo 'no message'
}

# timed NAME COMMAND...
timed() {
    local run="$results/$1.$round" status=0
    if compgen -G "$results/$1.*.failed" >/dev/null; then return; fi
    "${@:2}" > "$run.json" 2> "$run.log" || status=$?
    if ((status != 0)); then
        mv "$run.json" "$run.failed"
        echo "$1 failed (exit status $status): $(reason "$run.log")" >&2
    fi
}

precisions='f32 tf32 bf16 f16'
if [[ "$torch_device" != cuda* ]]; then precisions='f32 bf16'; fi
for round in $(seq "${ROUNDS:-2}"); do
    for device in ${DEVICES:-vulkan cuda}; do
        if [[ "$device" == cuda* ]]; then
            # polyview has no f16 through CUDA, and convolutions round their operands to TF32.
            timed "polyview $device tf32" "$polyview" bench --device "$device" --json "$@"
        else
            for precision in f32 f16; do
                timed "polyview $device $precision" "$polyview" bench --device "$device" \
                    --json "$@" --precision "$precision"
            done
        fi
    done
    for precision in $precisions; do
        timed "PyTorch $torch_device $precision" "$python" "$here/baseline_torch.py" step \
            --device "$torch_device" --threads "$threads" --json "$@" --precision "$precision"
    done
done

"$python" - "$results" <<'END'
import json, pathlib, statistics, sys

results = pathlib.Path(sys.argv[1])
failed = {file.name.split(".")[0] for file in results.glob("*.failed")}
ways = {}
for file in sorted(results.glob("*.json")):
    name = file.name.split(".")[0]
    if name not in failed:
        ways.setdefault(name, []).append(json.loads(file.read_text()))
rows = []
for name, runs in ways.items():
    run = runs[0]
    steps = [ms for each in runs for ms in each["steps_ms"]]
    if name.startswith("polyview"):
        who = run["device"]["name"]
        if run["precision"] == "f32":
            # On devices without f16, polyview uses f32.
            name = name.replace(" f16", " f32")
    else:
        who = f"{run['device_name']}, PyTorch {run['torch']}"
    rows.append((statistics.median(steps), len(steps), *name.split(" "), who))
if rows:
    rows.sort()
    print(f"{run['backbone']} {'×'.join(map(str, run['shape']))}, median of {rows[0][1]} steps")
for ms, _, program, device, precision, who in rows:
    print(f"{program:8} {device:9} {precision:5} {ms:9.2f} ms {run['shape'][0] / ms * 1e3:9.1f} clips/s"
          f" {ms / rows[0][0]:6.2f}×  ({who})")
sys.exit(bool(failed))
END
