"""Decodes a clip with PyAV, upright and in the colours that the stream's tags specify.

PyAV 18 converts with `sws_scale_frame`, which takes matrix and range from the frame, that is from the
bitstream's tags or else the container's; without a tag it uses BT.601, and limited range except for
formats that are inherently full range (yuvj…). `to_ndarray("rgb24")` gives the same, which is within 2.5
levels of what the matrices give in floating point. Older versions ignore the tags, so matrix and range
are passed explicitly if the frame has them. PyAV does not rotate frames: the display matrix is applied
here. Packets that cannot be decoded are skipped, as in ffmpeg.
"""

import struct

import av
import numpy as np

# Maps AVCOL_SPC_* to the names of PyAV's matrices, whose values are those of swscale.
MATRIX = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "SMPTE170M", 7: "SMPTE240M", 9: "BT2020", 10: "BT2020"}
RANGE = {1: "MPEG", 2: "JPEG"}


def display_matrix(frame):
    """Returns a, b, c, d of the display matrix: a pixel moves to (ax + cy, bx + dy)."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            m = struct.unpack("=9i", bytes(data))
            return tuple(v / 65536 for v in (m[0], m[1], m[3], m[4]))
    return (1, 0, 0, 1)


def upright(image, matrix):
    """Rotates and mirrors an image; angles other than quarter turns are ignored."""
    a, b, c, d = matrix
    if abs(a) > abs(b):
        x, y = a, d
    else:
        image, x, y = image.transpose(1, 0, 2), c, b
    image = image[:, ::-1] if x < 0 else image
    return image[::-1] if y < 0 else image


def angle(matrix):
    """Returns the clockwise rotation of the matrix in degrees."""
    a, b, _, _ = matrix
    return round(float(np.degrees(np.arctan2(b, a)))) % 360


def mean(image):
    return [round(float(image[..., c].mean()), 2) if image.size else 0.0 for c in range(3)]


def quadrants(image):
    """Returns the means of upper left, upper right, lower left, lower right, without a middle row or
    column."""
    h, w = image.shape[:2]
    rows, columns = (slice(0, h // 2), slice(h - h // 2, h)), (slice(0, w // 2), slice(w - w // 2, w))
    return [mean(image[r, c]) for r in rows for c in columns]


def rgb(frame, size):
    """Converts a frame to RGB at `size`: if a stream changes its size, ffmpeg scales to the first one."""
    options = {"format": "rgb24"}
    if (frame.width, frame.height) != size:
        options |= {"width": size[0], "height": size[1], "interpolation": "BICUBIC"}
    if int(frame.colorspace) in MATRIX:
        options["src_colorspace"] = MATRIX[int(frame.colorspace)]
    if int(frame.color_range) in RANGE:
        options["src_color_range"] = RANGE[int(frame.color_range)]
    return frame.reformat(**options).to_ndarray()


def read(path):
    """Reads a clip's properties and every frame's means. Raises `av.FFmpegError` if nothing can be read."""
    with av.open(str(path)) as container:
        cover = lambda s: bool(s.disposition & av.stream.Disposition.attached_pic)
        stream = next((s for s in container.streams.video if not cover(s)), None)
        if stream is None:
            raise av.StreamNotFoundError(0, "no video stream", str(path))
        means, corners, times, tags, errors, sizes = [], [], [], set(), 0, []
        matrix = (1, 0, 0, 1)
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                errors += 1
                continue
            for frame in decoded:
                matrix = display_matrix(frame)
                sizes.append((frame.width, frame.height))
                image = upright(rgb(frame, sizes[0]), matrix)
                means.append(mean(image))
                corners.append(quadrants(image))
                times.append(frame.time)
                height, width = image.shape[:2]
                tags.add(f"{frame.format.name} matrix {int(frame.colorspace)} range {int(frame.color_range)}")
        average = float(stream.average_rate) if stream.average_rate else None
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        codec = stream.codec_context.name
    if not means:
        raise av.InvalidDataError(0, "no frame", str(path))
    fps = None
    if None not in times and all(b > a for a, b in zip(times, times[1:])) and len(times) > 1:
        fps = (len(times) - 1) / (times[-1] - times[0])
    turn = angle(matrix)
    aspect = [aspect.numerator, aspect.denominator] if aspect else [1, 1]
    return {
        "frames": len(means), "width": width, "height": height, "fps": fps, "average": average,
        "codec": codec, "rotation": turn, "mirrored": matrix[0] * matrix[3] < matrix[1] * matrix[2],
        "pixel_aspect": aspect[::-1] if turn in {90, 270} else aspect,
        "means": means, "quadrants": corners, "tags": sorted(tags), "errors": errors,
        "times": times, "sizes": len(set(sizes)),
    }
