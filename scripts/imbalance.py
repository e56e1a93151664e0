#!/usr/bin/env python3
"""Measures whether balancing helps the rarest class: synthetic data with classes 8:4:2:1, three seeds.

    scripts/imbalance.py [POLYVIEW [EPOCHS]]     (default: the last `cargo build`'s binary, 14)

Trains r3d_tiny with plain cross-entropy, with the focal loss (class weights included) and with the
class-balanced sampler, all else equal. Prints the rarest class's recall on an evenly distributed
validation split, as a mean over the last five epochs, and with it the balanced accuracy of the task.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

SEEDS = [1, 2, 3]
EPOCHS = int(sys.argv[2]) if len(sys.argv) > 2 else 14
RAREST = 3
CONFIGS = {
    "plain": ["--loss-function", "plain", "--no-use-class-balanced-sampler"],
    "focal": ["--loss-function", "focal", "--no-use-class-balanced-sampler"],
    "balanced sampler": ["--loss-function", "plain", "--oversample-factor", "8"],
}
COMMON = (
    "--backbone-name r3d_tiny --frames-per-clip 8 --target-fps 25 --start-frame 0 --end-frame 15 "
    "--img-height 32 --img-width 48 --batch-size 4 --lr 3e-3 --dropout-rate 0.1 --num-workers 1 "
    "--disable-augmentation --no-gradual-finetuning --early-stopping-patience 0 --device cpu -q"
).split()


def main() -> None:
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    binary = sys.argv[1] if len(sys.argv) > 1 else str(target / "debug" / "polyview")
    rows = {name: [] for name in CONFIGS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            data = f"{folder}/data{seed}"
            size = "--actions 120 --frames 16 --width 64 --height 48 --ratio 8 4 2 1".split()
            subprocess.run(
                [binary, "synth", "--out", data, "--seed", str(seed), *size],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for name, options in CONFIGS.items():
                save = f"{folder}/{seed}-{name}"
                subprocess.run(
                    [binary, "train", "--dataset-root", data, "--save-dir", save, "--seed",
                     str(seed), "--epochs", str(EPOCHS), *COMMON, *options],
                    check=True, stderr=subprocess.DEVNULL,
                )
                history = json.loads(pathlib.Path(save, "history.json").read_text())
                last = [epoch["valid"]["tasks"][0] for epoch in history[-5:]]
                rarest = [task["confusion"][RAREST] for task in last]
                recall = sum(row[RAREST] / sum(row) for row in rarest) / len(rarest)
                balanced = sum(task["balanced_accuracy"] for task in last) / len(last)
                rows[name].append((recall, balanced))
    heads = "".join(f" | seed {seed}" for seed in SEEDS)
    print(f"recall of the rarest class (balanced accuracy of the task){heads} | mean")
    for name, cells in rows.items():
        text = "".join(f" | {recall:.2f} ({balanced:.2f})" for recall, balanced in cells)
        mean = [sum(cell[i] for cell in cells) / len(cells) for i in (0, 1)]
        print(f"{name}{text} | {mean[0]:.2f} ({mean[1]:.2f})")


if __name__ == "__main__":
    main()
