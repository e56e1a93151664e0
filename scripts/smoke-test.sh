#!/usr/bin/env bash
# Tests a build as users get it: a wheel, a release archive, or the program itself.
#     scripts/smoke-test.sh FILE
set -euo pipefail

file=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $file in
    *.whl)
        python3 -m venv "$work/venv"
        bin=$work/venv/bin
        [[ -d "$bin" ]] || bin=$work/venv/Scripts # Windows
        "$bin/python" -m pip install --no-index "$file"
        polyview=$bin/polyview
        ;;
    *.tar.gz)
        tar -xzf "$file" -C "$work"
        polyview=$(echo "$work"/polyview-*/polyview)
        ;;
    *.zip)
        unzip -q "$file" -d "$work"
        polyview=$(echo "$work"/polyview-*/polyview.exe)
        ;;
    *) polyview=$file ;;
esac

"$polyview" --version
# Only the CPU: this does not test the build machine's graphics driver.
"$polyview" doctor --device cpu --save-dir "$work/run"
"$polyview" synth --out "$work/data" --actions 8 --frames 16 --width 64 --height 48
"$polyview" train --dataset-root "$work/data" --save-dir "$work/run" --device cpu --test-run \
    --backbone-name r3d_tiny --img-height 32 --img-width 48 --disable-augmentation \
    --frames-per-clip 8 --target-fps 25 --start-frame 0 --end-frame 15 --batch-size 4
