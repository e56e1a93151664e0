// Selects the frames of a clip that the network sees, like `WindowSpec::pick` in src/data/sampling.rs. A
// movable window is in the middle of the clip, shifted by `shift` frames.

// Returns number `j` of `wanted` numbers spaced evenly over 0 … count − 1, with halves rounded up.
function spaced(j, wanted, count) {
  if (wanted <= 1) return Math.floor(count / 2);
  const gaps = wanted - 1;
  return Math.floor((2 * j * (count - 1) + gaps) / (2 * gaps));
}

const rounded = (number) => Math.floor(number + 0.5);

// Returns { indices, first, last }: a clip's frames for `input`, and the first and last frame of the window.
// `info` is { frames, fps }.
function pick(input, info, shift = 0) {
  const wanted = input.size[0];
  const end = info.frames - 1;
  const ratio = info.fps / input.targetFps;
  const step = Number.isFinite(ratio) ? Math.max(ratio, 1) : 1;
  const position = (start, i) => start + rounded(i * step);
  const within = (frame) => Math.min(Math.max(frame, 0), end);
  const each = (frame) => Array.from({ length: wanted }, (_, j) => frame(j));
  const ends = /^([\d.]+)(s?)\.\.([\d.]+)s?$/.exec(input.window);
  if (ends) {
    const frame = (text) => (ends[2] ? rounded(Number(text) * info.fps) : Number(text));
    const start = frame(ends[1]) + shift;
    const length = Math.max(frame(ends[3]) - frame(ends[1]), 0);
    let count = Math.max(Math.ceil((length + 0.5) / step), 1);
    if (count > 1 && position(0, count - 1) > length) count -= 1;
    const indices = each((j) => within(position(start, spaced(j, wanted, count))));
    return { indices, first: start, last: start + length };
  }
  switch (input.window) {
    case 'center':
    case 'dense': {
      const span = position(0, wanted - 1);
      const start = Math.floor((Math.max(info.frames - span - 1, 0) + 1) / 2) + shift;
      return { indices: each((j) => within(position(start, j))), first: start, last: start + span };
    }
    case 'segments': {
      const start = (j) => Math.floor((j * info.frames) / wanted);
      const middle = (j) => start(j) + Math.floor(Math.max(start(j + 1) - start(j), 1) / 2);
      return { indices: each((j) => within(middle(j))), first: 0, last: end };
    }
    case 'whole':
      return { indices: each((j) => spaced(j, wanted, info.frames)), first: 0, last: end };
    default:
      throw new Error(`unknown window ${input.window}`);
  }
}

// Whether a window can be moved within the clip.
const canMove = (input) => input.window !== 'segments' && input.window !== 'whole';
