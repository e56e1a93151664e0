#!/usr/bin/env python3
"""Writes golden.json: what PyAV shows of the clips beside this file. Per clip: size, frames per second and
the mean R, G and B of each frame; of the first frame, upright as ffmpeg (7 or later) turns it, those of
its quarters. Needs PyAV and NumPy."""
import json
import pathlib
import subprocess
import sys

import av
import numpy as np

folder = pathlib.Path(__file__).parent
golden = {}
for path in sorted(folder.glob("*.m*")):
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    rgb = [frame.to_ndarray(format="rgb24") for frame in frames]
    times = [float(frame.pts * frame.time_base) for frame in frames]
    command = [sys.argv[1] if len(sys.argv) > 1 else "ffmpeg", "-v", "error", "-i", str(path)]
    command += ["-frames:v", "1", "-f", "image2pipe", "-c:v", "ppm", "-"]
    picture = subprocess.run(command, check=True, capture_output=True).stdout
    _, size, _, pixels = picture.split(b"\n", 3)
    width, height = map(int, size.split())
    upright = np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
    rows, columns = [slice(0, height // 2), slice(height // 2, None)], [slice(0, width // 2), slice(width // 2, None)]
    golden[path.name] = {
        "width": width,
        "height": height,
        "fps": (len(times) - 1) / (max(times) - min(times)),
        "rgb": [[round(float(m), 2) for m in frame.mean((0, 1))] for frame in rgb],
        "quarters": [[round(float(m), 2) for m in upright[r, c].mean((0, 1))] for r in rows for c in columns],
    }
lines = ",\n".join(f'"{name}": {json.dumps(facts)}' for name, facts in golden.items())
(folder / "golden.json").write_text("{\n" + lines + "\n}\n")
