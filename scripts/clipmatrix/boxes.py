"""Edits finished mp4 and mov files: edit lists, display matrices, sample tables.

Works only on files whose `moov` box comes last, so that no offset into the media data changes.
"""

import struct

CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}
ROTATIONS = {
    0: (1, 0, 0, 1),
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "mirrored 90": (0, 1, 1, 0),
}


class Box:
    """A box that contains bytes or other boxes."""

    def __init__(self, name, data=b""):
        self.name, self.data, self.children = name, data, None
        if name in CONTAINERS:
            self.children = [Box(name, data) for name, data in split(data)]

    def dump(self):
        inner = self.data if self.children is None else b"".join(c.dump() for c in self.children)
        return struct.pack(">I4s", len(inner) + 8, self.name) + inner

    def get(self, *names):
        """Returns the box at a path of names, the first of each name; None if there is none."""
        box = self
        for name in names:
            box = next((c for c in box.children if c.name == name), None)
            if box is None:
                return None
        return box

    def remove(self, name):
        self.children = [c for c in self.children if c.name != name]


def split(data):
    """Returns names and contents of sibling boxes."""
    at, parts = 0, []
    while at + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        head = 8
        if size == 1:
            size, head = struct.unpack(">Q", data[at + 8 : at + 16])[0], 16
        if size == 0:
            size = len(data) - at
        parts.append((name, data[at + head : at + size]))
        at += size
    return parts


class Movie:
    """An mp4 file whose index can be edited."""

    def __init__(self, path):
        self.path = path
        data = path.read_bytes()
        at = data.rindex(b"moov") - 4
        (size,) = struct.unpack(">I", data[at : at + 4])
        if at + size != len(data):
            raise ValueError(f"{path}: the index is not at the end")
        self.head, self.moov = data[:at], Box(b"moov", data[at + 8 :])
        video = lambda t: t.get(b"mdia", b"hdlr").data[8:12] == b"vide"
        tracks = [c for c in self.moov.children if c.name == b"trak"]
        self.track = next(t for t in tracks if video(t))
        self.table = self.track.get(b"mdia", b"minf", b"stbl")

    def save(self):
        self.path.write_bytes(self.head + self.moov.dump())

    def scales(self):
        """Returns the ticks per second of the movie and of the track."""
        movie, track = self.moov.get(b"mvhd").data, self.track.get(b"mdia", b"mdhd").data
        scale = lambda d: struct.unpack_from(">I", d, 20 if d[0] == 1 else 12)[0]
        return scale(movie), scale(track)

    def media_start(self):
        """Returns the media time, in the track's ticks, at which the present edit list begins."""
        elst = self.track.get(b"edts", b"elst")
        if elst is None:
            return 0
        version, count = elst.data[0], struct.unpack_from(">I", elst.data, 4)[0]
        form = ">QqHH" if version == 1 else ">IiHH"
        step = struct.calcsize(form)
        times = [struct.unpack_from(form, elst.data, 8 + i * step)[1] for i in range(count)]
        return next((t for t in times if t >= 0), 0)

    def set_edits(self, edits):
        """Replaces the edit list by entries (seconds, media time in seconds or None, rate), where
        media time counts from the first frame shown so far."""
        movie, track = self.scales()
        start = self.media_start()
        data = struct.pack(">II", 0, len(edits))
        for length, media, rate in edits:
            time = -1 if media is None else start + round(media * track)
            data += struct.pack(">Iii", round(length * movie), time, round(rate * 65536))
        self.track.remove(b"edts")
        edts = Box(b"edts")
        edts.children = [Box(b"elst", data)]
        self.track.children.insert(1, edts)

    def set_rotation(self, rotation):
        """Turns the track by degrees clockwise."""
        a, b, c, d = (v * 65536 for v in ROTATIONS[rotation])
        tkhd = self.track.get(b"tkhd")
        at = 52 if tkhd.data[0] == 1 else 40
        matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        tkhd.data = tkhd.data[:at] + matrix + tkhd.data[at + 36 :]

    def drop_display_times(self):
        """Removes the composition offsets, which leaves only decoding times."""
        self.table.remove(b"ctts")
        self.track.remove(b"edts")

    def drop_colour(self):
        """Turns the `colr` boxes of the sample descriptions into free space."""
        stsd = self.table.get(b"stsd")
        stsd.data = stsd.data.replace(b"colr", b"free")

    def insert_empty_samples(self, which):
        """Inserts samples without bytes before the samples with the given numbers, as recorders write
        them for dropped frames. Each takes half of the duration of the sample before it."""
        sizes, offsets = self.samples()
        deltas, shifts = self.runs(b"stts"), self.runs(b"ctts")
        syncs = self.table.get(b"stss")
        syncs = syncs and [n - 1 for (n,) in struct.iter_unpack(">I", syncs.data[8:])]
        for at in sorted(which, reverse=True):
            sizes.insert(at, 0)
            offsets.insert(at, offsets[at])
            half = deltas[max(at, 1) - 1] // 2
            deltas[max(at, 1) - 1] -= half
            deltas.insert(at, half)
            if shifts:
                shifts.insert(at, shifts[at])
            syncs = syncs and [n + (n >= at) for n in syncs]
        numbers = lambda values: struct.pack(f">{len(values)}I", *values)
        pairs = lambda values: numbers([0, len(values)]) + b"".join(numbers([1, v]) for v in values)
        table = {
            b"stsz": numbers([0, 0, len(sizes)]) + numbers(sizes),
            b"stco": numbers([0, len(offsets)]) + numbers(offsets),
            b"stsc": numbers([0, 1, 1, 1, 1]),
            b"stts": pairs(deltas),
        }
        table |= {b"ctts": pairs(shifts)} if shifts else {}
        table |= {b"stss": numbers([0, len(syncs)]) + numbers([n + 1 for n in syncs])} if syncs else {}
        for name, data in table.items():
            self.table.get(name).data = data

    def runs(self, name):
        """Returns the value of each sample in a run-length table; an empty list if there is none."""
        box = self.table.get(name)
        return [v for n, v in struct.iter_unpack(">II", box.data[8:]) for _ in range(n)] if box else []

    def samples(self):
        """Returns the size and offset of each sample."""
        stsz, stco, stsc = (self.table.get(n).data for n in (b"stsz", b"stco", b"stsc"))
        fixed, count = struct.unpack_from(">II", stsz, 4)
        sizes = [fixed] * count if fixed else list(struct.unpack_from(f">{count}I", stsz, 12))
        chunks = struct.unpack_from(f">{struct.unpack_from('>I', stco, 4)[0]}I", stco, 8)
        (entries,) = struct.unpack_from(">I", stsc, 4)
        runs = [struct.unpack_from(">II", stsc, 8 + 12 * i) for i in range(entries)]
        offsets = []
        for number, offset in enumerate(chunks, 1):
            for _ in range(next(n for first, n in reversed(runs) if first <= number)):
                if len(offsets) < count:
                    offsets.append(offset)
                    offset += sizes[len(offsets) - 1]
        return sizes, offsets
