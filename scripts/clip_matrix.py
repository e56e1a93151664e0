#!/usr/bin/env python3
"""Checks that polyview and PyAV decode the same frames, on synthetic clips.

    scripts/clip_matrix.py make FOLDER [--count 200] [--seed 17] [--every N] [--ffmpeg PROGRAM]
    scripts/clip_matrix.py compare FOLDER --program "cargo run -q --example frame_means --" [--show]
    scripts/clip_matrix.py compare --files CLIP... --program target/debug/examples/frame_means

`make` needs ffmpeg and writes clips of 10 to 36 frames that vary in codec, container, pixel format,
range, matrix, rotation, edit list, frame rate, B-frames, size, sample aspect ratio, interlacing, sound
and broken starts. They are a seeded draw in which every value occurs, and pairs of values as evenly as
possible. `manifest.json` describes each clip. `--every 10` makes every tenth clip.

`compare` needs PyAV and numpy. It prints the share of clips that agree, and the others with reasons.
"""

import argparse
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from clipmatrix import draw, encode  # noqa: E402


def make(arguments):
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    maker = encode.Maker(folder, arguments.ffmpeg)
    manifest = []
    for clip in draw.draw(arguments.count, arguments.seed)[:: arguments.every]:
        if arguments.only is not None and clip["number"] not in arguments.only:
            continue
        name = f"{clip['number']:03}-{clip['codec']}"
        try:
            path = maker.make(clip, name)
        except encode.Failed as error:
            print(f"{name}.{clip['container']} skipped: {error}", file=sys.stderr)
            continue
        manifest.append({"name": path.name, **clip})
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(f"{len(manifest)} clips in {folder}")
    return 0 if manifest else 1


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="make the clips")
    making.add_argument("folder", type=Path)
    making.add_argument("--count", type=int, default=200, help="number of clips drawn")
    making.add_argument("--seed", type=int, default=17)
    making.add_argument("--every", type=int, default=1, help="make only every Nth of them")
    making.add_argument("--only", type=int, nargs="*", help="make only the clips with these numbers")
    making.add_argument("--ffmpeg", default="ffmpeg", help="the ffmpeg program")
    comparing = commands.add_parser("compare", help="compare with PyAV")
    comparing.add_argument("folder", type=Path, nargs="?")
    comparing.add_argument("--files", type=Path, nargs="*", help="any clips, instead of a folder")
    comparing.add_argument("--program", required=True, help="the built example frame_means, or a command")
    comparing.add_argument("--ffmpeg", default="ffmpeg", help="the ffmpeg program, a second opinion")
    comparing.add_argument("--show", action="store_true", help="print the frames' means of clips that differ")
    comparing.add_argument("--json", type=Path, help="write every clip's result to this file")
    arguments = parser.parse_args()
    if arguments.command == "make":
        return make(arguments)
    from clipmatrix import compare

    return compare.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
