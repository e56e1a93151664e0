#!/usr/bin/env python3
"""Loads an exported backbone into torchvision's model and compares its features with polyview's.

    polyview export --checkpoint run/best.safetensors --out model.safetensors --for torchvision
    python3 scripts/load_in_torch.py model.safetensors

Needs torch, torchvision and safetensors. The file carries the features that polyview computed for a
fixed clip; exit status 1 if torchvision's differ by more than 1e-4. (r3d_tiny is not torchvision's
and cannot be loaded there.)
"""

import json
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.models import video


def main() -> int:
    path = sys.argv[1]
    with safe_open(path, "pt") as file:
        about = file.metadata()
    info, features = json.loads(about["polyview"]), json.loads(about["features"])
    model = getattr(video, info["model"]["backbone"])(weights=None)
    missing, unexpected = model.load_state_dict(load_file(path), strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    print(f"missing: {missing}, unexpected: {unexpected}")
    model.fc = torch.nn.Identity()
    model.eval()
    shape = (1, 3, 4, 32, 32)
    count = torch.Size(shape).numel()
    clip = torch.tensor([i * 7919 % 2003 / 1001 - 1 for i in range(count)]).reshape(shape)
    with torch.no_grad():
        ours = torch.tensor(features)
        theirs = model(clip)[0]
    error = (ours - theirs).abs().max().item()
    print(f"{info['model']['backbone']}: {len(features)} features up to {theirs.abs().max():.3f}, "
          f"largest difference {error:.2e}")
    return 0 if error < 1e-4 and not unexpected and missing in ([], ["fc.weight", "fc.bias"]) else 1


if __name__ == "__main__":
    sys.exit(main())
