"""Makes a clip with ffmpeg, and edits its bytes for properties that ffmpeg cannot write."""

import subprocess
from pathlib import Path

from . import ebml, pattern
from .boxes import Movie

EXTENSION = {"fmp4": "mp4"}
MUXER = {
    "fmp4": ["-movflags", "frag_keyframe+empty_moov+default_base_moof"],
    "m2ts": ["-f", "mpegts", "-mpegts_m2ts_mode", "1"],
    "m4v": ["-f", "mp4"],
    "mp4": ["-movflags", "+write_colr"],
    "mov": ["-movflags", "+write_colr"],
    "h264": ["-f", "h264"],
    "hevc": ["-f", "hevc"],
}
ENCODER = {
    "h264": ["-c:v", "libx264", "-preset:v:0", "fast", "-crf:v:0", "8"],
    "hevc": ["-c:v", "libx265", "-preset:v:0", "fast", "-crf:v:0", "8"],
    "vp9": ["-c:v", "libvpx-vp9", "-crf:v:0", "10", "-b:v", "0", "-cpu-used", "5", "-auto-alt-ref", "1",
            "-lag-in-frames", "10"],
    "vp8": ["-c:v", "libvpx", "-crf:v:0", "6", "-b:v", "3M", "-auto-alt-ref", "1", "-lag-in-frames", "8"],
    "av1": ["-c:v", "libaom-av1", "-cpu-used", "8", "-crf:v:0", "15", "-b:v", "0"],
    "prores": ["-c:v", "prores_ks"],
    "theora": ["-c:v", "libtheora", "-q:v:0", "9"],
    "dnxhd": ["-c:v", "dnxhd", "-profile:v:0", "dnxhr_hq"],
    "mjpeg": ["-c:v", "mjpeg", "-q:v:0", "2", "-strict", "unofficial"],
}
SOUND = {"avi": "libmp3lame", "flv": "libmp3lame", "webm": "libopus", "mpg": "mp2", "vob": "mp2",
         "wmv": "wmav2", "asf": "wmav2", "ogv": "libvorbis"}
# Names of the matrices in ffmpeg's scale filter.
SCALE = {"untagged": "bt601", "bt709": "bt709", "smpte170m": "bt601", "bt2020nc": "bt2020",
         "bt470bg": "bt601", "smpte240m": "smpte240m"}
PRIMARIES = {"bt2020nc": "bt2020"}
TRANSFER = {"bt2020nc": "bt2020-10", "bt470bg": "gamma28"}
FREE_QUALITY = {"h264", "hevc", "vp9", "vp8", "av1", "prores", "theora", "dnxhd", "mjpeg"}
SILENT = {"gif", "rawvideo", "png", "qtrle", "ffv1", "huffyuv", "utvideo", "cinepak", "dvvideo"}


class Failed(Exception):
    """ffmpeg failed; the message is the last lines that it wrote."""


class Maker:
    """Makes clips in a folder with an ffmpeg program."""

    def __init__(self, folder, ffmpeg="ffmpeg"):
        self.folder, self.ffmpeg = Path(folder), ffmpeg
        # ffmpeg 5.1 introduced `-fps_mode`; later versions removed `-vsync`.
        self.passthrough = ["-fps_mode", "passthrough"]
        try:
            self.run(["-f", "lavfi", "-i", "color=s=16x16:d=0.1", *self.passthrough, "-f", "null", "-"])
        except Failed:
            self.passthrough = ["-vsync", "passthrough"]

    def run(self, arguments, data=None):
        command = [self.ffmpeg, "-v", "error", "-y", *map(str, arguments)]
        feed = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
        done = subprocess.run(command, capture_output=True, timeout=300, **feed)
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
            raise Failed(" / ".join(lines[-3:]))

    def make(self, clip, name):
        """Writes the clip and returns its path."""
        container = clip["container"]
        path = self.folder / f"{name}.{EXTENSION.get(container, container)}"
        part = lambda label, ext=path.suffix: self.folder / f".{name}-{label}{ext}"
        parts = []
        try:
            if clip["start"] in {"joined", "joined sizes"} or clip["start"] == "size change":
                other = dict(clip, seed=clip["seed"] + 1)
                if clip["start"] != "joined":
                    other["size"] = [64, 48] if clip["size"] != [64, 48] else [96, 64]
                parts = [part("a"), part("b")]
                streamed = clip["start"] == "size change" and clip["codec"] == "h264"
                if streamed and clip["container"] != "ts":
                    parts = [part("a", ".ts"), part("b", ".ts")]
                for form, target in zip((clip, other), parts):
                    self.encode(dict(form, container="ts") if streamed else form, target)
                self.join(clip, parts, path, part)
            else:
                self.encode(clip, path)
            self.cut(clip, path, part("cut"))
            patch(clip, path)
            if clip["tags"] == "container":
                spare = part("tags")
                path.rename(spare)
                # 2 is "unspecified": the bitstream's tags go, the container's stay.
                none = ("colour_primaries=2:transfer_characteristics=2:matrix_coefficients=2"
                        ":video_full_range_flag=0")
                self.run(["-i", spare, "-map", 0, "-c", "copy",
                          "-bsf:v:0", f"{clip['codec']}_metadata={none}", *container_options(clip), path])
        finally:
            for leftover in self.folder.glob(f".{name}-*"):
                leftover.unlink()
        return path

    def join(self, clip, parts, path, part):
        """Joins two recordings: the files if the container is a streaming one, otherwise the streams."""
        if clip["start"] != "size change" or clip["container"] in {"ts", "mpg"}:
            path.write_bytes(b"".join(p.read_bytes() for p in parts))
            return
        # The muxer gets only the parameter sets of the first part; the others are in the stream.
        listing = part("list", ".txt")
        listing.write_text("".join(f"file '{p.name}'\n" for p in parts))
        self.run(["-f", "concat", "-safe", 0, "-i", listing, "-map", "0:v:0", "-c", "copy",
                  *container_options(clip), path])

    def encode(self, clip, path):
        """Encodes the pattern with everything that ffmpeg itself can write."""
        width, height = clip["size"]
        data = pattern.frames(width, height, clip["frames"], clip["seed"])
        extra, container, codec = clip["extra"], clip["container"], clip["codec"]
        inputs = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
                  "-r", rate_of(clip), "-i", "-"]
        maps, options = ["-map", "0:v"], []
        if extra in {"sound", "sound first"}:
            length = clip["frames"] / rate_value(clip)
            inputs += ["-f", "lavfi", "-i", f"sine=d={length:.3f}:r=44100"]
            maps += ["-map", "1:a"]
            maps = maps if extra == "sound" else maps[2:] + maps[:2]
            options += ["-c:a", SOUND.get(container, "aac"), "-b:a", "64k"]
            options += ["-ar", "48000"] if container == "webm" else []
        elif extra == "cover":
            inputs += ["-f", "lavfi", "-i", "color=red:s=40x40:d=0.04:r=25"]
            maps += ["-map", "1:v"]
            options += ["-c:v:1", "mjpeg", "-disposition:v:1", "attached_pic", "-frames:v:1", 1]
            options += ["-pix_fmt:v:1", "yuvj420p"]
        elif extra == "second video":
            inputs += ["-f", "lavfi", "-i", "color=blue:s=32x32:d=0.5:r=25"]
            maps += ["-map", "1:v"]
        elif extra == "timecode":
            options += ["-timecode", "01:00:00:00"]
        elif extra == "offset":
            options += ["-output_ts_offset", 3.2]
        elif extra == "in-band headers":
            options += ["-tag:v", "avc3" if codec == "h264" else "hev1"]
        elif extra == "cropped":
            # Encoders crop only at the right and at the bottom.
            options += ["-bsf:v:0", f"{codec}_metadata=crop_left=4:crop_top=6"]
        options += self.video(clip) + container_options(clip)
        if extra == "index first":
            options += ["-movflags", "+faststart"]
        elif extra == "negative offsets":
            options += ["-movflags", "+negative_cts_offsets"]
        elif extra == "no edit list":
            options += ["-use_editlist", 0]
        if clip["rate"] == "jitter":
            options += ["-enc_time_base", "1:1000"]
        if clip["rate"] == "unstated" and container == "webm":
            options += ["-live", 1]
        self.run([*inputs, *maps, "-filter:v:0", filters(clip), *self.passthrough, *options, path], data)

    def video(self, clip):
        """Returns the encoder and its options."""
        codec = clip["codec"]
        options = list(ENCODER.get(codec, ["-c:v", codec]))
        if clip["container"] == "y4m":
            options = ["-c:v", "wrapped_avframe"]
        # A second track has its own encoder.
        options[0] = "-c:v:0"
        if codec not in FREE_QUALITY | SILENT | {"jpeg2000"}:
            options += ["-q:v:0", 2]
        if codec not in SILENT | {"mjpeg", "prores", "dnxhd", "jpeg2000", "svq1"}:
            options += ["-g:v:0", clip["gop"]]
        private = []
        b_frames = clip["b_frames"]
        if codec in {"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video"}:
            options += ["-bf:v:0", {"none": 0, "two": 2}.get(b_frames, 3)]
        if codec == "h264":
            private += ["b-adapt=0"] if b_frames != "none" else []
            kind = {"pyramid": "b-pyramid=normal", "open gop": "open-gop=1"}
            private += [kind.get(b_frames, "b-pyramid=none")]
            private += ["slices=3"] if clip["extra"] == "slices" else []
            options += ["-qp:v:0", 0] if clip["extra"] == "lossless" else []
            options += ["-flags:v:0", "+ilme+ildct"] if clip["scan"] == "interlaced" else []
            options += ["-x264-params:v:0", ":".join(private)]
        elif codec == "hevc":
            private = ["log-level=error", f"open-gop={int(b_frames == 'open gop')}", "min-keyint=1"]
            # x265 sometimes fails if blocks are larger than the picture.
            private += ["ctu=16", "b-adapt=0", f"b-pyramid={int(b_frames == 'pyramid')}"]
            private += [f"keyint={clip['gop']}"]
            options += ["-x265-params:v:0", ":".join(private)]
        elif codec == "mpeg2video":
            options += ["-flags:v:0", "+ilme+ildct"] if clip["scan"] == "interlaced" else []
            options += ["-slices:v:0", 2] if clip["extra"] == "slices" else []
        if clip["matrix"] != "untagged":
            options += ["-colorspace:v:0", clip["matrix"]]
            options += ["-color_primaries:v:0", PRIMARIES.get(clip["matrix"], clip["matrix"])]
            options += ["-color_trc:v:0", TRANSFER.get(clip["matrix"], clip["matrix"])]
        if clip["range"] != "untagged":
            options += ["-color_range:v:0", {"limited": "tv", "full": "pc"}[clip["range"]]]
        return options

    def cut(self, clip, path, spare):
        """Makes the cuts that need no re-encoding."""
        rate, frames = rate_value(clip), clip["frames"]
        if clip["edits"] == "cut":
            path.rename(spare)
            # The cut starts between two key frames: the edit list hides the frames before it.
            start = (clip["gop"] + 2) / rate
            self.run(["-ss", f"{start:.3f}", "-i", spare, "-map", 0, "-c", "copy",
                      *container_options(clip), path])
        if clip["start"] == "between key frames":
            path.rename(spare)
            start = (min(clip["gop"], frames // 2) - 2.5) / rate
            self.run(["-i", spare, "-map", 0, "-c", "copy", "-copyinkf", "-ss", f"{start:.3f}",
                      *container_options(clip), path])
        if clip["start"] in {"cut", "joined", "joined sizes"}:
            data = path.read_bytes()
            # The cut is inside a packet and after the first parameter sets. Half of the joins stay whole.
            if clip["start"] == "cut" or clip["seed"] % 2:
                path.write_bytes(data[len(data) // 5 + 77 :])


def container_options(clip):
    """Returns the options of the muxer, which must not write random numbers or its version."""
    return [*MUXER.get(clip["container"], []), "-fflags", "+bitexact"]


def rate_of(clip):
    return {"jitter": "25", "gaps": "25", "unstated": "25"}.get(clip["rate"], clip["rate"])


def rate_value(clip):
    over, _, under = rate_of(clip).partition("/")
    return int(over) / int(under or 1)


def filters(clip):
    """Returns the filter chain from RGB to the encoder's input."""
    rgb = clip["format"] in {"gbrp", "rgb24", "bgr0", "argb", "rgba", "bgr8", "rgb8"}
    full = clip["range"] == "full" or clip["format"].startswith("yuvj")
    if clip["codec"] == "mjpeg" and clip["range"] == "limited":
        full = False
    target = clip["format"] if full or clip["codec"] != "mjpeg" else clip["format"].replace("j", "")
    chain = [] if rgb else [
        f"scale=out_color_matrix={SCALE[clip['matrix']]}:out_range={'full' if full else 'limited'}"
        ":sws_flags=accurate_rnd+full_chroma_int"]
    chain += [f"format={target}", f"setsar={clip['aspect'].replace(':', '/')}"]
    if clip["scan"] == "interlaced":
        chain.append("setfield=tff")
    if clip["rate"] == "gaps":
        chain.append("select='not(eq(mod(n\\,7)\\,3)+eq(n\\,4))'")
    if clip["rate"] == "jitter":
        chain.append("settb=1/1000,setpts='floor(40*N+13*mod(N*N\\,7)/3+25*floor(N/5))'")
    unknown = []
    if clip["matrix"] == "untagged":
        unknown.append("colorspace=unknown:color_primaries=unknown:color_trc=unknown")
    unknown += ["range=unknown"] * (clip["range"] == "untagged" and not full)
    return ",".join(chain + ["setparams=" + ":".join(unknown)] * bool(unknown))


def patch(clip, path):
    """Edits the finished file."""
    container = clip["container"]
    if container in {"mkv", "webm"}:
        if clip["rate"] == "unstated":
            ebml.drop_frame_rate(path)
        if clip["rotation"] != 0 and not ebml.set_rotation(path, clip["rotation"]):
            raise Failed("no room for the rotation")
        if clip["tags"] == "stream":
            ebml.drop_colour(path)
    elif container in {"mp4", "mov", "m4v", "3gp"}:
        wanted = [clip["rotation"] != 0, clip["edits"] not in {"none", "cut"}, clip["tags"] == "stream",
                  clip["start"] in {"empty samples", "no display times"}]
        if any(wanted):
            movie = Movie(path)
            change(clip, movie)
            movie.save()


def change(clip, movie):
    """Edits an mp4 file's index."""
    if clip["rotation"] != 0:
        movie.set_rotation(clip["rotation"])
    if clip["edits"] not in {"none", "cut"}:
        movie.set_edits(edits(clip))
    if clip["tags"] == "stream":
        movie.drop_colour()
    if clip["start"] == "no display times":
        movie.drop_display_times()
    if clip["start"] == "empty samples":
        count = len(movie.samples()[0])
        # In a third of the clips, the first sample is among them.
        some = {count // 3, 2 * count // 3 + 1} if clip["seed"] % 3 else {0, count // 2}
        movie.insert_empty_samples(some)


def edits(clip):
    """Returns the entries of the edit list: length in seconds, start in the media in seconds, rate."""
    n, rate = clip["frames"], rate_value(clip)
    part = lambda first, last, speed=1: ((last - first) / rate / (speed or 1), first / rate, speed)
    third, half = n // 3, n // 2
    return {
        "several": [part(0, third), part(half, n)],
        "reversed": [part(half, n), part(0, half)],
        "overlap": [part(0, 2 * third), part(third, n)],
        "empty first": [(0.3, None, 1), part(0, n)],
        "empty middle": [part(0, half), (0.24, None, 1), part(half, n)],
        "fast": [part(0, n, 2)],
        "slow": [part(0, half, 0.5), part(half, n)],
        "dwell": [part(0, half), (0.4, half / rate, 0), part(half, n)],
        "open end": [(0, 3 / rate, 1)],
        "past the end": [(2 * n / rate, 2 / rate, 1)],
        "inside a frame": [((n - 6) / rate, 2.4 / rate, 1)],
    }[clip["edits"]]
