"""Edits finished Matroska and WebM files without changing any length: an element is overwritten with
padding, or with a shorter one and padding."""

import struct

DEFAULT_DURATION, COLOUR, CLUSTER = b"\x23\xe3\x83", b"\x55\xb0", b"\x1f\x43\xb6\x75"


def overwrite(path, element, replacement=b""):
    """Overwrites the first `element` in the file's header with `replacement` and padding. False if there
    is none, its size takes more than one byte, or the replacement does not fit."""
    data = bytearray(path.read_bytes())
    head = data.find(CLUSTER)
    at = data.find(element, 0, head)
    if at < 0 or data[at + len(element)] < 0x81:
        return False
    end = at + len(element) + 1 + (data[at + len(element)] & 0x7F)
    room = end - at - len(replacement)
    if room < 2:
        return False
    data[at:end] = replacement + bytes([0xEC, 0x80 | (room - 2)]) + bytes(room - 2)
    path.write_bytes(data)
    return True


def drop_frame_rate(path):
    """Removes the default duration of frames, which files written by browsers lack."""
    return overwrite(path, DEFAULT_DURATION)


def drop_colour(path):
    """Removes the container's colour tags."""
    return overwrite(path, COLOUR)


def set_rotation(path, degrees):
    """Rotates the track clockwise by degrees; this overwrites the container's colour tags."""
    roll = b"\x76\x75\x84" + struct.pack(">f", {90: -90.0, 180: 180.0, 270: 90.0}[degrees])
    return overwrite(path, COLOUR, b"\x76\x70" + bytes([0x80 | len(roll)]) + roll)
