"""Chooses the clips to make: the axes, which values can be combined, and a seeded draw."""

import random
from itertools import combinations

MP4 = ["mp4", "mov", "m4v"]
EDITABLE = {"mp4", "mov", "m4v", "3gp"}
MPEG_TS = {"ts", "m2ts"}

# Per codec: containers, pixel formats, sizes. "any" includes odd sizes, which the encoder must allow.
CODECS = {
    "h264": (MP4 + ["fmp4", "mkv", "avi", "ts", "m2ts", "flv", "3gp", "h264"],
             ["yuv420p", "yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gray"], "even"),
    "hevc": (MP4 + ["fmp4", "mkv", "ts", "hevc"],
             ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gray"], "wide"),
    "vp9": (["webm", "mkv", "mp4", "ivf"], ["yuv420p", "yuv444p", "yuv420p10le", "gbrp"], "any"),
    "vp8": (["webm", "mkv", "ivf"], ["yuv420p"], "any"),
    "av1": (["mp4", "mkv", "webm"], ["yuv420p", "yuv420p10le"], "any"),
    "mpeg4": (["avi", "mp4", "mkv", "mov", "m4v", "3gp", "ts"], ["yuv420p"], "any"),
    "mpeg2video": (["mpg", "ts", "m2ts", "mkv", "vob"], ["yuv420p", "yuv422p"], "even"),
    "mpeg1video": (["mpg", "avi"], ["yuv420p"], "even"),
    "mjpeg": (["avi", "mov", "mkv", "mp4"], ["yuvj420p", "yuvj422p", "yuvj444p"], "any"),
    "prores": (["mov", "mkv"], ["yuv422p10le", "yuv444p10le", "yuva444p10le"], "even"),
    "ffv1": (["mkv", "avi", "nut"],
             ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gray", "bgr0", "gbrp"], "any"),
    "wmv2": (["wmv", "asf", "avi"], ["yuv420p"], "even"),
    "wmv1": (["wmv"], ["yuv420p"], "even"),
    "msmpeg4": (["avi", "asf"], ["yuv420p"], "even"),
    "h263": (["3gp", "avi", "mov"], ["yuv420p"], "cif"),
    "flv": (["flv"], ["yuv420p"], "even"),
    "theora": (["ogv", "mkv"], ["yuv420p", "yuv422p", "yuv444p"], "any"),
    "dnxhd": (["mov", "mxf", "mkv"], ["yuv422p"], "256x120"),
    "dvvideo": (["avi", "mov", "dv"], ["yuv420p"], "720x576"),
    "huffyuv": (["avi", "mkv"], ["yuv422p", "rgb24"], "even"),
    "utvideo": (["avi", "mkv"], ["yuv420p", "gbrp"], "even"),
    "rawvideo": (["avi", "mov", "nut", "y4m"], ["yuv420p", "rgb24", "uyvy422"], "even"),
    "qtrle": (["mov"], ["rgb24", "argb"], "any"),
    "png": (["mov", "mkv", "avi"], ["rgb24", "rgba", "gray"], "any"),
    "cinepak": (["avi", "mov"], ["rgb24"], "four"),
    "svq1": (["mov"], ["yuv410p"], "even"),
    "gif": (["gif"], ["bgr8", "rgb8"], "any"),
    "jpeg2000": (["mov", "mxf"], ["yuv420p", "yuv444p", "rgb24"], "even"),
}
SIZES = {
    "even": [(48, 32), (64, 48), (96, 64), (98, 66), (82, 46), (62, 34)],
    # x265 fails on smaller sizes.
    "wide": [(64, 48), (96, 64), (98, 66), (82, 46), (62, 34)],
    "any": [(48, 32), (96, 64), (97, 65), (49, 33), (98, 65), (67, 50)],
    "cif": [(128, 96), (176, 144)],
    "four": [(48, 32), (64, 48), (96, 64)],
    "256x120": [(256, 120)],
    "720x576": [(720, 576)],
}
# The first value of each axis is the ordinary one.
AXES = {
    "range": ["untagged", "limited", "full"],
    "matrix": ["untagged", "bt709", "smpte170m", "bt2020nc", "bt470bg", "smpte240m"],
    "tags": ["both", "stream", "container"],
    "rotation": [0, 90, 180, 270, "mirrored", "mirrored 90"],
    "edits": ["none", "cut", "several", "reversed", "overlap", "empty first", "empty middle",
              "fast", "slow", "dwell", "open end", "past the end", "inside a frame"],
    "rate": ["25", "30000/1001", "120", "jitter", "gaps", "unstated"],
    "b_frames": ["none", "two", "pyramid", "open gop"],
    "aspect": ["1:1", "4:3", "12:11"],
    "scan": ["progressive", "interlaced"],
    "extra": ["none", "sound", "sound first", "cover", "second video", "timecode", "offset",
              "index first", "in-band headers", "slices", "lossless", "cropped", "negative offsets",
              "no edit list"],
    "start": ["intact", "between key frames", "cut", "joined", "joined sizes", "empty samples",
              "no display times", "size change"],
}
TAGGABLE = {"h264", "hevc", "vp9", "av1", "mpeg2video", "prores", "ffv1", "mjpeg"}
B_FRAMES = {"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video"}
RGB = {"gbrp", "rgb24", "bgr0", "argb", "rgba", "bgr8", "rgb8"}


def sensible(clip):
    """Whether the values can be combined, in a file that some program could have written."""
    codec, container, get = clip["codec"], clip["container"], clip.get
    plain = lambda axis: clip[axis] == AXES[axis][0]
    flags = [
        plain("range") and plain("matrix") or codec in TAGGABLE and clip["format"] not in RGB,
        # Only these codecs can be tagged as full range.
        get("range") != "full" or codec in {"h264", "hevc", "vp9", "av1", "mjpeg", "ffv1"},
        plain("tags") or not (plain("range") and plain("matrix"))
        and codec in {"h264", "hevc"} and container in {"mp4", "mov", "m4v", "mkv"},
        plain("rotation") or container in EDITABLE
        or container == "mkv" and not plain("matrix") and plain("tags")
        and clip["rotation"] in {90, 180, 270},
        plain("edits") or container in EDITABLE and plain("start"),
        clip["rate"] not in {"jitter"} or container in {"mp4", "mov", "m4v", "fmp4", "mkv", "webm"}
        and codec not in {"mpeg2video", "dvvideo", "dnxhd"} and clip["edits"] in {"none", "cut"},
        clip["rate"] != "gaps" or container not in {"y4m", "h264", "hevc", "dv", "mxf", "gif", "mpg"}
        and codec not in {"dvvideo"} and clip["edits"] in {"none", "cut"},
        clip["rate"] != "unstated" or container in {"webm", "mkv"},
        clip["rate"] in {"25"} or codec not in {"dvvideo"} and container not in {"mxf"},
        clip["rate"] != "120" or codec not in {"mpeg2video", "mpeg1video", "h263", "gif"},
        plain("b_frames") or codec in B_FRAMES and container not in {"flv", "avi", "3gp", "h264", "hevc"},
        clip["b_frames"] not in {"pyramid", "open gop"} or codec in {"h264", "hevc"},
        plain("aspect") or codec not in {"gif", "png", "h263", "flv", "cinepak", "svq1", "qtrle",
                                         "rawvideo", "dvvideo", "wmv1", "wmv2", "msmpeg4"}
        and container not in {"avi", "ivf", "3gp"},
        container != "y4m" or clip["format"] == "yuv420p",
        plain("scan") or codec in {"h264", "mpeg2video"} and clip["format"] == "yuv420p"
        and clip["size"][1] % 4 == 0,
        clip["extra"] not in {"sound", "sound first"}
        or container not in {"h264", "hevc", "ivf", "gif", "y4m", "dv", "fmp4", "nut", "mxf"},
        clip["extra"] != "cover" or container in {"mp4", "m4v", "mkv"},
        clip["extra"] != "second video" or container in {"mp4", "mov", "mkv", "ts"},
        clip["extra"] != "timecode" or container == "mov",
        clip["extra"] != "offset" or container in {"mkv", "webm", "ts", "mp4", "flv", "mov"},
        clip["extra"] != "index first" or container in {"mp4", "mov"}
        and plain("edits") and plain("rotation") and plain("start") and plain("tags"),
        clip["extra"] != "in-band headers" or codec in {"h264", "hevc"} and container in {"mp4", "mov"},
        clip["extra"] != "slices" or codec in {"h264", "mpeg2video"},
        clip["extra"] != "lossless" or codec == "h264" and clip["format"] != "gray",
        clip["extra"] != "cropped" or codec in {"h264", "hevc"} and plain("tags"),
        clip["extra"] not in {"negative offsets", "no edit list"}
        or container in {"mp4", "mov"} and not plain("b_frames") and plain("edits"),
        plain("start") or plain("extra") or clip["extra"] in {"sound", "slices"},
        clip["start"] != "between key frames"
        or codec in {"h264", "hevc", "mpeg4", "mpeg2video", "vp9"}
        and container in {"mp4", "mov", "mkv", "webm"} and clip["rate"] in {"25", "30000/1001"},
        clip["start"] not in {"cut", "joined", "joined sizes"}
        or container in MPEG_TS | {"mpg", "h264", "hevc"} and plain("tags"),
        clip["start"] not in {"empty samples", "no display times"} or container in EDITABLE,
        clip["start"] != "no display times" or not plain("b_frames"),
        clip["start"] != "empty samples" or codec in {"h264", "hevc", "mpeg4"},
        clip["start"] != "size change" or codec in {"h264", "vp9", "mpeg2video"}
        and container in {"mp4", "mkv", "ts", "webm", "mpg"} and plain("tags")
        and clip["rate"] in {"25", "30000/1001"},
    ]
    return all(flags)


def candidate(rng, fixed):
    """Returns a random sensible clip with the values in `fixed`; each other value is ordinary with a
    probability of 2/3. None if no such clip is found."""
    for _ in range(400):
        common = ["h264"] * 22 + ["hevc"] * 7 + ["vp9"] * 3
        codec = fixed.get("codec") or rng.choice([*CODECS, *common])
        containers, formats, sizes = CODECS[codec]
        clip = {"codec": codec, "container": rng.choice(containers), "format": rng.choice(formats)}
        for name, values in AXES.items():
            clip[name] = values[0] if rng.random() < 2 / 3 else rng.choice(values[1:])
        clip["size"] = list(rng.choice(SIZES[sizes]))
        clip |= fixed
        if clip["container"] in containers and sensible(clip):
            return clip
    return None


def pairs(clip):
    """Returns the pairs of values that a clip covers."""
    return list(combinations(sorted((k, str(v)) for k, v in clip.items()), 2))


def draw(count, seed):
    """Draws `count` clips. The values that are not ordinary take turns; of 12 candidates with the value,
    the one whose pairs of values were seen least is taken. A quarter of the clips are of the most common
    kind, H.264 in mp4 or a similar container."""
    rng = random.Random(seed)
    containers = sorted({name for names, _, _ in CODECS.values() for name in names})
    axes = [(axis, value) for axis, values in AXES.items() for value in values[1:]]
    # Broken starts take two turns, because they differ most from one another.
    axes += [("start", value) for value in AXES["start"][1:]]
    turns = [("codec", name) for name in CODECS] + [("container", name) for name in containers] + axes
    rng.shuffle(turns)
    rng.shuffle(axes)
    seen, clips = {}, []
    used = {"codec": dict.fromkeys(CODECS, 0), "container": dict.fromkeys(containers, 0)}
    while len(clips) < count:
        number = len(clips)
        common = number % 20 == 0 or number % 5 == 3
        queue = axes if common else turns
        axis, value = queue[0]
        queue.append(queue.pop(0))
        fixed = {axis: value}
        if common:
            usual = {"codec": "h264", "format": "yuv420p", "scan": "progressive"}
            fixed = usual | {"container": rng.choice(["mp4", "mp4", "mov", "m4v", "3gp"])} | fixed
            if fixed["scan"] != "progressive":
                continue
        rarest = [{name: min(counts, key=counts.get)} for name, counts in used.items()]
        found = [candidate(rng, [{}, *rarest][i % 3] | fixed) for i in range(12)]
        found = [clip for clip in found if clip]
        if not found:
            continue

        def gain(clip):
            return sum(1 / (1 + seen.get(pair, 0)) ** 2 for pair in pairs(clip))

        best = max(found, key=gain)
        for name, counts in used.items():
            counts[best[name]] += 1
        for pair in pairs(best):
            seen[pair] = seen.get(pair, 0) + 1
        best["frames"] = 10 if best["codec"] == "dvvideo" else rng.randrange(12, 37)
        best["gop"] = rng.choice([5, 8, 12])
        best["seed"] = rng.randrange(1000)
        clips.append({"number": number, **best})
    return clips
