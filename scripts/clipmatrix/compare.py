"""Compares the frames that polyview and PyAV decode, and prints where they differ.

A clip agrees if both have the same number of frames, each frame's mean of R, G and B differs by at
most 2 grey levels, each quadrant's by at most 7 (conversions interpolate the chroma differently, which
shows at edges), the upright size is the same, and the rate differs by at most 1 % from PyAV's
(frames - 1) / (last time - first time). If PyAV reads nothing, the ffmpeg program's frames decide; if
that reads nothing either, any result is accepted.
For a clip that does not agree, the table says whether the ffmpeg program agrees with PyAV.
"""

import json
import shlex
import subprocess
from collections import Counter, defaultdict

import av
import numpy as np

from . import draw, reference

MEAN, QUADRANT, RATE = 2.0, 7.0, 0.01


def polyview(program, paths):
    """Returns one object per clip from the example's output."""
    done = subprocess.run([*shlex.split(program), *map(str, paths)], capture_output=True)
    lines = done.stdout.decode().splitlines()
    found = {}
    for line in lines:
        clip = json.loads(line)
        found[clip["path"]] = clip
    missing = [p for p in paths if str(p) not in found]
    if missing:
        # A clip that crashes the program must not affect the others.
        if len(paths) == 1:
            tail = done.stderr.decode(errors="replace").strip()[-300:]
            return {str(paths[0]): {"error": f"status {done.returncode}: {tail}", "kind": "crash"}}
        for path in missing:
            found |= polyview(program, [path])
    return found


def with_ffmpeg(path, ffmpeg):
    """Returns the means of upright frames from the ffmpeg program; None if it reads nothing."""
    for passthrough in (["-fps_mode", "passthrough"], ["-vsync", "passthrough"]):
        # Each picture of this format states its size.
        command = [ffmpeg, "-v", "error", "-i", str(path), "-map", "0:V:0", *passthrough,
                   "-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe", "-"]
        data = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).stdout
        if data:
            break
    images, at = [], 0
    while data[at : at + 2] == b"P6":
        head = data[at : at + 40].split(b"\n", 3)
        width, height = map(int, head[1].split())
        at += sum(len(line) + 1 for line in head[:3])
        images.append(np.frombuffer(data, np.uint8, width * height * 3, at).reshape(height, width, 3))
        at += width * height * 3
    if not images:
        return None
    return {"frames": len(images), "width": images[0].shape[1], "height": images[0].shape[0],
            "fps": None, "rotation": None, "pixel_aspect": None,
            "means": [reference.mean(image) for image in images],
            "quadrants": [reference.quadrants(image) for image in images]}


def difference(ours, theirs):
    return np.abs(np.array(ours, float) - np.array(theirs, float))


def aligned(ours, theirs):
    """Describes the offset at which two sequences of different lengths agree best."""
    best = None
    shorter, longer = sorted((ours, theirs), key=len)
    for shift in range(len(longer) - len(shorter) + 1):
        worst = difference(shorter, longer[shift : shift + len(shorter)]).max()
        best = min(best or (worst, shift), (worst, shift))
    if best is None or best[0] > MEAN:
        return "no offset fits"
    before, after = best[1], len(longer) - len(shorter) - best[1]
    what = "missing" if len(ours) < len(theirs) else "extra"
    return f"{what}: {before} at the start, {after} at the end"


def judge(ours, theirs):
    """Returns the reasons why a clip does not agree, and the largest difference of a mean."""
    if "error" in ours:
        return [f"error ({ours.get('kind')}): {ours['error'].split(': ', 1)[-1][:110]}"], None
    if None in ours["means"]:
        return ["frames without a picture"], None
    reasons = []
    size = [[clip["width"], clip["height"]] for clip in (ours, theirs)]
    if size[0] != size[1]:
        turned = " (not turned)" if size[0] == size[1][::-1] else ""
        reasons.append(f"size {size[0]}, theirs {size[1]}{turned}")
    if ours["frames"] != theirs["frames"]:
        where = aligned(ours["means"], theirs["means"])
        return [*reasons, f"{ours['frames']} frames, theirs {theirs['frames']}; {where}"], None
    means = difference(ours["means"], theirs["means"])
    worst = float(means.max())
    corners = difference(ours["quadrants"], theirs["quadrants"])
    if worst > MEAN:
        number = int((means.max(1) > MEAN).sum())
        order = [int(difference(theirs["means"], m).sum(1).argmin()) for m in ours["means"]]
        if difference(ours["means"], [theirs["means"][t] for t in order]).max() <= MEAN:
            reasons.append(f"different order: {order}")
        reasons.append(f"{number} frames' colours differ by up to {worst:.1f}")
    elif corners.max() > QUADRANT:
        number = int((corners.max((1, 2)) > QUADRANT).sum())
        reasons.append(f"{number} frames' quadrants differ by up to {corners.max():.1f}")
    if theirs["fps"] and abs(ours["fps"] / theirs["fps"] - 1) > RATE:
        reasons.append(f"{ours['fps']:.3f} fps, theirs {theirs['fps']:.3f}")
    return reasons, worst


def stated(ours, theirs):
    """Returns stated properties that differ from PyAV's; they do not change a pixel."""
    if "error" in ours:
        return []
    # A mirrored frame has no angle.
    names = ["pixel_aspect"] if theirs.get("mirrored") else ["rotation", "pixel_aspect"]
    return [f"{n} {ours[n]}, theirs {theirs[n]}" for n in names
            if theirs.get(n) is not None and ours[n] != theirs[n]]


SAME = "same as the ffmpeg program"


def second_opinion(path, ffmpeg, ours, theirs):
    """Describes the ffmpeg program's result where polyview and PyAV differ; None if it agrees with PyAV."""
    second = with_ffmpeg(path, ffmpeg)
    if second is None:
        return "the ffmpeg program reads nothing"
    differs = judge(second | {"fps": 1}, theirs | {"fps": None})[0]
    if differs and not judge(ours, second)[0]:
        return SAME
    return f"the ffmpeg program differs too: {differs[0]}" if differs else None


def run(arguments):
    clips = {}
    if arguments.folder:
        manifest = json.loads((arguments.folder / "manifest.json").read_text())
        clips = {arguments.folder / clip["name"]: clip for clip in manifest}
    paths = list(clips) + list(arguments.files or [])
    found = polyview(arguments.program, paths)
    results, by_value, wrong = [], defaultdict(lambda: [0, 0]), Counter()
    for path in paths:
        ours, source = found[str(path)], "PyAV"
        try:
            theirs = reference.read(path)
        except (av.FFmpegError, ValueError) as error:
            theirs, source = with_ffmpeg(path, arguments.ffmpeg), f"ffmpeg (PyAV: {type(error).__name__})"
        if theirs is None:
            # There is nothing to compare with: any result is accepted.
            reasons, worst, source, notes = [], None, "neither", []
        else:
            (reasons, worst), notes = judge(ours, theirs), stated(ours, theirs)
            if reasons and source == "PyAV":
                second = second_opinion(path, arguments.ffmpeg, ours, theirs)
                reasons += [second] if second else []
        results.append({"path": str(path), "agrees": not reasons, "reasons": reasons, "largest": worst,
                        "notes": notes, "by": source, "axes": clips.get(path, {}),
                        "frames": theirs and theirs["frames"], "tags": theirs and theirs.get("tags")})
        for axis in ["codec", "container", "format", *draw.AXES] if path in clips else []:
            tally = by_value[axis, str(clips[path][axis])]
            tally[0] += not reasons
            tally[1] += 1
        if arguments.show and reasons and theirs and "error" not in ours:
            for t in range(max(ours["frames"], theirs["frames"])):
                pick = lambda clip: clip["means"][t] if t < clip["frames"] else "-"
                print(f"  {path.name} {t:3} {pick(ours)} {pick(theirs)}")
    report(results, by_value)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if all(result["agrees"] for result in results) else 1


def report(results, by_value):
    agree = [result for result in results if result["agrees"]]
    largest = max((r["largest"] for r in agree if r["largest"] is not None), default=0)
    frames = sum(r["frames"] or 0 for r in agree)
    total = sum(r["frames"] or 0 for r in results)
    share = len(agree) / max(len(results), 1)
    print(f"{len(agree)} of {len(results)} clips agree ({share:.1%}), {frames} of {total} frames; "
          f"largest difference of a mean among them {largest:.2f} grey levels")
    program = sum(SAME in result["reasons"] for result in results)
    if program:
        print(f"{program} more agree with the ffmpeg program, whose decoder gives different frames than PyAV's")
    for axis, value in by_value:
        good, count = by_value[axis, value]
        if good < count:
            print(f"  {axis} {value}: {good} of {count}")
    for result in results:
        axes = result["axes"]
        unusual = [f"{axis} {axes[axis]}" for axis in draw.AXES if axes and axes[axis] != draw.AXES[axis][0]]
        name = result["path"].rsplit("/", 1)[-1]
        by = "" if result["by"] == "PyAV" else f" [by {result['by']}]"
        if not result["agrees"]:
            about = f" ({', '.join([axes.get('format', ''), *unusual])})" if axes else ""
            print(f"{name}{about}{by}: {'; '.join(result['reasons'])}")
        if result["notes"]:
            print(f"{name}{by}: stated: {'; '.join(result['notes'])}")
