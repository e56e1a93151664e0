#!/usr/bin/env python3
"""Times Python's video readers at reading the same windows of clips as polyview's loader.

    python3 scripts/baseline_loader.py --root DIR --reader pyav|torchcodec|decord
        [--height 224 --width 398 --frames 16 --workers 1 --rounds 5 --dump FILE]

finds every mp4 below DIR, decodes the same frames of each as polyview (the window rule of
src/data/sampling.rs), resizes them to the same size and prints one JSON object. Every way of using
the reader that might be the fastest is timed, in processes and in threads; the best one counts.
The process is bound to as many cores as it has workers. Frames stay in the worker, which is cheaper
than in a real data loader. Needs the reader, numpy, and torchvision for torchcodec.

--dump writes the first clip's frames as raw bytes [T, H, W, 3].
"""

import argparse
import importlib.metadata
import json
import math
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np


def window(fps, count, start, end, target_fps, wanted):
    """Returns `wanted` frame numbers, as selected by WindowSpec::window_indices."""
    step = max(fps / target_fps, 1.0)
    length = max(end - start, 0)

    def position(i):
        return start + math.floor(i * step + 0.5)

    walk = max(math.ceil((length + 0.5) / step), 1)
    if walk > 1 and position(walk - 1) - start > length:
        walk -= 1

    def spaced(j):
        if wanted <= 1:
            return walk // 2
        gaps = wanted - 1
        return (2 * j * (walk - 1) + gaps) // (2 * gaps)

    return [min(position(spaced(j)), count - 1) for j in range(wanted)]


def cover(height, width, to_height, to_width):
    """Returns the size after scaling so that the target is covered, and the centre crop."""
    k = max(to_height / height, to_width / width)
    h = max(to_height, math.floor(height * k + 0.5))
    w = max(to_width, math.floor(width * k + 0.5))
    top, left = (h - to_height) // 2, (w - to_width) // 2
    return h, w, slice(top, top + to_height), slice(left, left + to_width)


def pyav(path, args, thread_type="NONE", skip=False):
    """Seeks to the key frame before the window and stops after its last frame. Scales during the
    colour conversion. `skip` skips non-reference frames before the window."""
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = thread_type
        fps, start = float(stream.average_rate), stream.start_time or 0
        indices = window(fps, stream.frames, *args.window, args.frames)
        out = np.empty((args.frames, args.height, args.width, 3), np.uint8)
        h, w, rows, columns = cover(stream.height, stream.width, args.height, args.width)
        wanted = set(indices)

        def time_of(index):
            return start + round(index / fps / stream.time_base)

        first, last = time_of(indices[0]), time_of(indices[-1])
        if indices[0] > 0:
            container.seek(first, stream=stream)
        for packet in container.demux(stream):
            if skip:
                before = packet.pts is not None and packet.pts < first
                stream.codec_context.skip_frame = "NONREF" if before else "DEFAULT"
            for frame in packet.decode():
                index = round((frame.pts - start) * stream.time_base * fps)
                if index in wanted:
                    if (frame.height, frame.width) != (h, w):
                        frame = frame.reformat(w, h, "rgb24", interpolation="BILINEAR")
                    rgb = frame.to_ndarray(format="rgb24")[rows, columns]
                    for position, other in enumerate(indices):
                        if other == index:
                            out[position] = rgb
                if frame.pts >= last:
                    return out
    raise ValueError(f"{path}: the window's last frame is missing")


def torchcodec(path, args, seek_mode="exact", scale="torchvision"):
    import torch
    from torchcodec.decoders import VideoDecoder
    from torchvision.transforms.v2 import Resize, functional

    torch.set_num_threads(1)
    options = {"num_ffmpeg_threads": 1, "seek_mode": seek_mode}
    decoder = VideoDecoder(path, **options)
    facts = decoder.metadata
    h, w, rows, columns = cover(facts.height, facts.width, args.height, args.width)
    resize = (h, w) != (facts.height, facts.width)
    if resize and scale == "decoder":
        decoder = VideoDecoder(path, transforms=[Resize((h, w))], **options)
    indices = window(facts.average_fps, facts.num_frames, *args.window, args.frames)
    distinct = sorted(set(indices))
    frames = decoder.get_frames_at(distinct).data
    if resize and scale == "torchvision":
        frames = functional.resize(frames, [h, w], antialias=True)
    places = torch.tensor([distinct.index(i) for i in indices])
    return frames[:, :, rows, columns][places].permute(0, 2, 3, 1).numpy()


def decord(path, args):
    """Scales while decoding."""
    from decord import VideoReader

    reader = VideoReader(path, num_threads=1)
    height, width, _ = reader[0].shape if args.source is None else (*args.source, 3)
    h, w, rows, columns = cover(height, width, args.height, args.width)
    if (h, w) != (height, width):
        reader = VideoReader(path, width=w, height=h, num_threads=1)
    indices = window(reader.get_avg_fps(), len(reader), *args.window, args.frames)
    distinct = sorted(set(indices))
    frames = reader.get_batch(distinct).asnumpy()
    return frames[[distinct.index(i) for i in indices]][:, rows, columns]


READERS = {
    "pyav": (
        pyav,
        "av",
        [{"thread_type": t, "skip": s} for t in ("NONE", "AUTO") for s in (False, True)],
    ),
    "torchcodec": (
        torchcodec,
        "torchcodec",
        [{"seek_mode": m, "scale": s} for m in ("exact", "approximate") for s in ("torchvision", "decoder")],
    ),
    "decord": (decord, "decord", [{}]),
}


def read(job):
    path, args, options = job
    return READERS[args.reader][0](path, args, **options).shape[0]


def clips_per_second(paths, args, options, pool):
    jobs = [(path, args, options) for path in paths]
    rates = []
    for _ in range(args.rounds + 1):
        start = time.perf_counter()
        assert all(n == args.frames for n in pool(read, jobs))
        rates.append(len(paths) / (time.perf_counter() - start))
    # The first round loads the reader.
    return statistics.median(rates[1:])


def measure(paths, args, options):
    """Measures clips per second by kind of worker."""
    if args.workers == 1:
        return {"alone": clips_per_second(paths, args, options, map)}
    # Forked children of a process that has used a reader or torch may hang.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, spawn) as pool:
        processes = clips_per_second(paths, args, options, pool.map)
    with ThreadPoolExecutor(args.workers) as pool:
        threads = clips_per_second(paths, args, options, pool.map)
    return {"processes": processes, "threads": threads}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--reader", choices=READERS, required=True)
    parser.add_argument("--height", type=int, default=224)
    parser.add_argument("--width", type=int, default=398)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--start-frame", type=int, default=67)
    parser.add_argument("--end-frame", type=int, default=82)
    parser.add_argument("--target-fps", type=float, default=15.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--source", type=int, nargs=2, metavar=("H", "W"),
                        help="size of the clips, so that decord need not decode a frame to find it")
    parser.add_argument("--dump", type=Path)
    args = parser.parse_args()
    args.window = (args.start_frame, args.end_frame, args.target_fps)

    # macOS leaves files whose names begin with a dot beside clips.
    paths = [path for path in sorted(args.root.rglob("*.mp4")) if not path.name.startswith(".")]
    paths = [str(path) for path in paths]
    if not paths:
        raise SystemExit(f"no mp4 below {args.root}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.workers:])
    reader, package, variants = READERS[args.reader]
    if args.dump:
        args.dump.write_bytes(np.ascontiguousarray(reader(paths[0], args, **variants[0])).tobytes())

    results = []
    for options in variants:
        for pool, rate in measure(paths, args, options).items():
            results.append({"clips_per_s": round(rate, 2), "pool": pool, **options})
    best = max(results, key=lambda result: result["clips_per_s"])
    print(json.dumps({
        "reader": args.reader,
        "version": importlib.metadata.version(package),
        "workers": args.workers,
        **best,
        "clips": len(paths),
        "frames_per_clip": args.frames,
        "size": [args.height, args.width],
        "rounds": args.rounds,
        "all": results,
    }))


if __name__ == "__main__":
    main()
