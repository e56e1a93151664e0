#!/usr/bin/env bash
# Sets the machine up for the tests and runs them. Arguments are passed to `cargo test`. The last lines
# say how many tests were skipped, wholly or in part, and why; the exit status is cargo's.
set -euo pipefail
cd "$(dirname "$0")/.."

# Shader tests need a Vulkan driver, and spirv-val to check the SPIR-V that drivers get. If a
# Debian-like machine has no driver, Mesa's software rasteriser (lavapipe) is installed; macOS and
# Windows have their own APIs.
if [[ "$(uname -s)" == Linux ]]; then
    missing=()
    compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null \
        || compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null \
        || missing+=(libvulkan1 mesa-vulkan-drivers)
    command -v spirv-val >/dev/null || missing+=(spirv-tools)
    # For tests with several ranks.
    command -v mpirun >/dev/null || missing+=(openmpi-bin)
    if ((${#missing[@]} > 0)); then
        as_root=()
        [[ "$(id -u)" == 0 ]] || as_root=(sudo)
        if command -v apt-get >/dev/null && command -v "${as_root[@]:-true}" >/dev/null; then
            "${as_root[@]}" apt-get update
            "${as_root[@]}" apt-get install -y --no-install-recommends "${missing[@]}"
        else
            echo "tests that need one of these will be skipped: ${missing[*]}" >&2
        fi
    fi
fi

# Tests that cannot run here append a line to this file: their name, a tab, the reason.
POLYVIEW_SKIPS="$(mktemp)"
export POLYVIEW_SKIPS
trap 'rm -f "$POLYVIEW_SKIPS"' EXIT

status=0
cargo test "$@" || status=$?

echo
if [[ -s "$POLYVIEW_SKIPS" ]]; then
    echo "skipped, wholly or in part: $(cut -f 1 "$POLYVIEW_SKIPS" | sort -u | wc -l | tr -d ' ') tests"
    sort -u "$POLYVIEW_SKIPS" | cut -f 2 | sort | uniq -c | sort -rn
else
    echo 'skipped: 0 tests'
fi
exit "$status"
