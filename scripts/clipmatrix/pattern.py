"""Frames of a test pattern in which every frame, corner and colour is distinguishable."""

import random


def frame(width, height, t, seed=0):
    """Returns the RGB bytes, `[height, width, 3]`, of frame t.

    Each quadrant is a tint of a level that rises by 6 per frame, so that missing, repeated or reordered
    frames change the means. A wrong matrix shows in the tints: they are moderate, because saturated ones
    would be clipped, and mostly warm, because the errors of opposite ones would cancel in the mean. A wrong
    range shows in the levels and in black and white corners. A square moves.
    """
    level = 14 + (6 * t + 7 * seed) % 240
    third, quarter = level // 3, level // 4
    half = level // 2 + 40
    tints = [
        (level, third, quarter),
        (half, half, half),
        (level, half, quarter),
        (third, quarter, level),
    ]
    patches = [
        (0, 0, (0, 0, 0)),
        (width - width // 8, 0, (255, 255, 255)),
        (0, height - height // 8, (230, 20, 30)),
        (width - width // 8, height - height // 8, (20, 40, 220)),
    ]
    side = max(4, width // 8)
    at = random.Random(f"{seed}").randrange(width)
    patches.append(((at + 3 * t) % (width - side), height // 2 - side // 2, (250, 240, 40)))
    rows = []
    for y in range(height):
        left, right = tints[2 * (2 * y >= height)], tints[2 * (2 * y >= height) + 1]
        row = bytearray(bytes(left) * (width // 2) + bytes(right) * (width - width // 2))
        for px, py, colour in patches:
            tall = side if colour[1] == 240 else height // 8
            wide = side if colour[1] == 240 else width // 8
            if py <= y < py + tall:
                row[3 * px : 3 * (px + wide)] = bytes(colour) * wide
        rows.append(bytes(row))
    return b"".join(rows)


def frames(width, height, count, seed=0):
    """Returns the RGB bytes of all frames, concatenated."""
    return b"".join(frame(width, height, t, seed) for t in range(count))
