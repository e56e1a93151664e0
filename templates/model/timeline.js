// Determines when the frames of a video are shown. A video element knows neither their number nor their
// times. An mp4 file's index does; for other files, playing the video briefly gives the rate, and its end the
// number of frames.

// More than a day at 10 frames a second: no clip is that long.
const MOST_FRAMES = 1e6;

// Yields the boxes of an mp4 file in `view` between two offsets: [type, start of the content, end].
function* boxes(view, from, to) {
  for (let at = from; at + 8 <= to; ) {
    let size = view.getUint32(at);
    let head = 8;
    if (size === 1 && at + 16 <= to) {
      size = Number(view.getBigUint64(at + 8));
      head = 16;
    }
    if (size === 0) size = to - at;
    if (size < head || at + size > to) return;
    const type = String.fromCharCode(...[4, 5, 6, 7].map((k) => view.getUint8(at + k)));
    yield [type, at + head, at + size];
    at += size;
  }
}

// Returns the range of the content of the box at a path of types; undefined if there is none.
function inside(view, range, ...path) {
  let [from, to] = range;
  for (const wanted of path) {
    const found = [...boxes(view, from, to)].find(([type]) => type === wanted);
    if (!found) return undefined;
    [, from, to] = found;
  }
  return [from, to];
}

// Reads the index (`moov`) of an mp4 file, wherever it is, without reading the rest.
async function index(file) {
  for (let at = 0; at + 16 <= file.size; ) {
    const head = new DataView(await file.slice(at, at + 16).arrayBuffer());
    const [small, type] = [head.getUint32(0), head.getUint32(4)];
    const size = small === 1 ? Number(head.getBigUint64(8)) : small || file.size - at;
    if (size < 8) return undefined;
    if (type === 0x6d6f6f76) {
      return new DataView(await file.slice(at, at + size).arrayBuffer(), small === 1 ? 16 : 8);
    }
    at += size;
  }
  return undefined;
}

// Returns the range of the first video track in an index; undefined if there is none.
function videoTrack(view) {
  for (const [type, ...track] of boxes(view, 0, view.byteLength)) {
    const handler = type === 'trak' && inside(view, track, 'mdia', 'hdlr');
    if (handler && view.getUint32(handler[0] + 8) === 0x76696465) return track; // vide
  }
  return undefined;
}

// Whether an mp4 file says that its frames must be rotated or mirrored.
async function isTurned(file) {
  const view = await index(file);
  const track = view && videoTrack(view);
  const [header] = (track && inside(view, track, 'tkhd')) ?? [];
  if (header === undefined) return false;
  const matrix = header + (view.getUint8(header) === 1 ? 52 : 40);
  const [a, b, c, d] = [0, 4, 12, 16].map((at) => view.getInt32(matrix + at));
  return a < 0 || b !== 0 || c !== 0 || d < 0;
}

// Returns the part of the track that is shown, in its ticks, interpreting the edit list as players do: empty
// edits before the part delay it. Lists with several parts are rare and are treated as the whole track.
function shownPart(view, track, movieTicks, ticks) {
  const list = inside(view, track, 'edts', 'elst');
  if (!list) return [-Infinity, Infinity];
  const [at] = list;
  const long = view.getUint8(at) === 1;
  const count = view.getUint32(at + 4);
  const edits = Array.from({ length: count }, (_, k) => {
    const entry = at + 8 + k * (long ? 20 : 12);
    return long
      ? { length: Number(view.getBigUint64(entry)), start: Number(view.getBigInt64(entry + 8)) }
      : { length: view.getUint32(entry), start: view.getInt32(entry + 4) };
  }).filter(({ start }) => start !== -1);
  if (edits.length !== 1) return [-Infinity, Infinity];
  const [{ length, start }] = edits;
  if (length === 0) return [start, Infinity];
  return [start, start + Math.round((length * ticks) / movieTicks)];
}

// Returns a filter for the samples that hold a frame: a sample without bytes stands for a dropped frame.
function holdsFrame(view, table) {
  const [sizes] = inside(view, table, 'stsz') ?? [];
  if (sizes === undefined || view.getUint32(sizes + 4) > 0) return () => true;
  const count = view.getUint32(sizes + 8);
  return (_, k) => k >= count || view.getUint32(sizes + 12 + 4 * k) > 0;
}

// Returns the times in seconds at which the frames begin, counted from the first one, and the end of the last
// one; undefined for files that are not mp4 with an index of the samples.
async function indexedTimes(file) {
  const view = await index(file);
  if (!view) return undefined;
  const header = inside(view, [0, view.byteLength], 'mvhd');
  const track = videoTrack(view);
  if (!track) return undefined;
  const [media] = inside(view, track, 'mdia', 'mdhd') ?? [];
  const table = inside(view, track, 'mdia', 'minf', 'stbl');
  const [lengths] = (table && inside(view, table, 'stts')) ?? [];
  if (media === undefined || lengths === undefined || !header) return undefined;
  const timescale = (at) => view.getUint32(at + (view.getUint8(at) === 1 ? 20 : 12));
  const ticks = timescale(media);
  const starts = [];
  let decoded = 0;
  for (let k = 0; k < view.getUint32(lengths + 4); k += 1) {
    const entry = lengths + 8 + 8 * k;
    for (let n = view.getUint32(entry); n > 0; n -= 1) {
      if (starts.length > MOST_FRAMES) return undefined;
      starts.push(decoded);
      decoded += view.getUint32(entry + 4);
    }
  }
  const [offsets] = inside(view, table, 'ctts') ?? [];
  if (offsets !== undefined) {
    let sample = 0;
    for (let k = 0; k < view.getUint32(offsets + 4); k += 1) {
      const entry = offsets + 8 + 8 * k;
      for (let n = view.getUint32(entry); n > 0 && sample < starts.length; n -= 1) {
        starts[sample] += view.getInt32(entry + 4);
        sample += 1;
      }
    }
  }
  const [from, to] = shownPart(view, track, timescale(header[0]), ticks);
  const shown = starts.filter(holdsFrame(view, table))
    .filter((start) => start >= from && start < to).sort((a, b) => a - b);
  if (shown.length === 0) return undefined;
  const usual = shown.length > 1 ? (shown.at(-1) - shown[0]) / (shown.length - 1) : decoded;
  return [...shown, shown.at(-1) + usual].map((time) => (time - shown[0]) / ticks);
}

// Returns the time at which the last frame begins; undefined if it is not shown. A video's duration does not
// tell: the sound may be longer, and recordings of a browser have no duration. The first frame begins at
// `origin`.
async function lastTime(video, origin) {
  const last = new Promise((resolve) => {
    const shown = (_, { mediaTime }) => {
      if (mediaTime > origin + 0.001) resolve(mediaTime);
      else video.requestVideoFrameCallback(shown);
    };
    video.requestVideoFrameCallback(shown);
  });
  const arrived = event(video, 'seeked');
  // A time beyond the end of any clip seeks to its end.
  video.currentTime = 1e9;
  await Promise.race([arrived, pause(10000)]);
  return Promise.race([last, pause(2000)]);
}

// Like `indexedTimes`, by playing the video: multiples of the median distance of frames, up to the last one.
async function playedTimes(video, origin) {
  if (!video.requestVideoFrameCallback) return undefined;
  const last = await lastTime(video, origin);
  const times = [];
  video.currentTime = 0;
  const enough = new Promise((resolve) => {
    const shown = (_, { mediaTime }) => {
      times.push(mediaTime);
      if (times.length > 24) resolve();
      else video.requestVideoFrameCallback(shown);
    };
    video.requestVideoFrameCallback(shown);
    // The video was at its end before: an old event must not count.
    video.addEventListener('ended', () => video.ended && resolve());
    setTimeout(resolve, 4000);
  });
  await video.play();
  await enough;
  video.pause();
  const gaps = times.slice(1).map((time, k) => time - times[k]).filter((gap) => gap > 0);
  if (gaps.length === 0) return undefined;
  const gap = gaps.sort((a, b) => a - b)[Math.floor(gaps.length / 2)];
  const frames = Math.max(Math.round(last === undefined ? video.duration / gap : (last - origin) / gap + 1), 1);
  if (frames > MOST_FRAMES) throw new Error('its length cannot be determined; convert it to mp4 (H.264)');
  return Array.from({ length: frames + 1 }, (_, k) => k * gap);
}

// Returns { times, frames, fps } of a video whose first frame is shown at `origin`.
async function timeline(file, video, origin) {
  // A damaged index may point anywhere.
  const indexed = await indexedTimes(file).catch(() => undefined);
  const times = indexed ?? (await playedTimes(video, origin));
  if (!times) throw new Error('its frame rate cannot be determined');
  const frames = times.length - 1;
  const fps = frames > 1 ? (frames - 1) / times[frames - 1] : 1 / times[1];
  return { times, frames, fps: Number.isFinite(fps) && fps > 0 ? fps : 25 };
}
