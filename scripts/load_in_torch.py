#!/usr/bin/env python3
"""Loads an exported backbone into PyTorch's model and compares its features with polyview's.

    polyview export --checkpoint run/best.safetensors --out model.safetensors --for torchvision
    python3 scripts/load_in_torch.py model.safetensors

Needs torch, torchvision and safetensors. The file contains the features that polyview computed for a
fixed clip; the exit status is 1 if PyTorch's differ by more than 1e-4 of the largest or of 1, whichever
is greater. r2plus1d_34, r3d_34 and r3d_50 come from reference_backbones.py, the others from torchvision.
(r3d_tiny exists only in polyview and cannot be loaded.)
"""

import json
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.models import video

import reference_backbones


def main() -> int:
    path = sys.argv[1]
    with safe_open(path, "pt") as file:
        about = file.metadata()
    info, features = json.loads(about["polyview"]), json.loads(about["features"])
    name = info["model"]["backbone"]
    if name in reference_backbones.NETWORKS:
        model = reference_backbones.NETWORKS[name][0]()
    else:
        model = getattr(video, name)(weights=None)
    missing, unexpected = model.load_state_dict(load_file(path), strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    print(f"missing: {missing}, unexpected: {unexpected}")
    model.eval()
    shape = (1, 3, 4, 32, 32)
    count = torch.Size(shape).numel()
    clip = torch.tensor([i * 7919 % 2003 / 1001 - 1 for i in range(count)]).reshape(shape)
    with torch.no_grad():
        ours = torch.tensor(features)
        _, theirs, _ = reference_backbones.run(model, clip)
    error = (ours - theirs[0]).abs().max().item()
    largest = theirs.abs().max().item()
    print(f"{name}: {len(features)} features up to {largest:.3f}, largest difference {error:.2e}")
    return 0 if error < 1e-4 * max(largest, 1) and not unexpected and missing in ([], ["fc.weight", "fc.bias"]) else 1


if __name__ == "__main__":
    sys.exit(main())
