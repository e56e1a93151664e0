#!/usr/bin/env bash
# Sets the machine up for the tests and runs them. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

# Shader tests need a Vulkan driver. Where a Debian-like machine has none, Mesa's software
# rasteriser (lavapipe) is one; macOS and Windows bring their own API.
if [[ "$(uname -s)" == Linux ]] && ! compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null \
    && ! compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null; then
    if command -v apt-get >/dev/null; then
        as_root=()
        [[ "$(id -u)" == 0 ]] || as_root=(sudo)
        "${as_root[@]}" apt-get update
        "${as_root[@]}" apt-get install -y --no-install-recommends libvulkan1 mesa-vulkan-drivers
    else
        echo 'no Vulkan driver found: tests that need one will say that they skip' >&2
    fi
fi

cargo test "$@"
