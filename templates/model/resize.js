// Resizes frames to the network's size, as in training (src/cpu/resize.rs): they are scaled to cover it and
// cropped in the centre. Bilinear; when shrinking, the kernel widens with the scale. Pixels are RGB, one
// byte per channel, rounded after each of the two passes, rows first.

// Returns which pixels are kept of an axis scaled by `k` to at least `to`: the scaled length, the first kept
// pixel `start`, and the position `first` and `length` of the kept part in the frame's own pixels. Only this
// part is computed: scaled, a frame of one row may be thousands of times longer than the network's.
function kept(from, k, to) {
  const scaled = Math.max(to, Math.floor(from * k + 0.5));
  const start = Math.floor((scaled - to) / 2);
  if (scaled === to) return { scaled, start, to, first: 0, length: from };
  const step = from / scaled;
  const first = start * step;
  return { scaled, start, to, first, length: Math.min(to * step, from - first) };
}

// Returns for each kept pixel of an axis the first input and the weights of the inputs from there on, in fixed
// point with as many bits as fit each weight in 16, as in the library that resizes for training.
function kernels(from, { to, first: begin, length }) {
  const scale = (begin + length - begin) / to;
  const radius = Math.max(scale, 1);
  const all = Array.from({ length: to }, (_, i) => {
    const center = begin + (i + 0.5) * scale;
    const first = Math.max(Math.floor(center - radius), 0);
    const end = Math.min(Math.ceil(center + radius), from);
    const weights = Array.from({ length: end - first }, (_, k) =>
      Math.max(1 - Math.abs(first + k - (center - 0.5)) / radius, 0));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
  const most = Math.max(...all.flatMap(({ weights }) => weights));
  let bits = 0;
  while (bits < 21 && Math.round(most * 2 ** (bits + 1)) < 2 ** 15) bits += 1;
  const fixed = ({ first, weights }) =>
    ({ first, weights: weights.map((weight) => Math.round(weight * 2 ** bits)) });
  return { bits, kernels: all.map(fixed) };
}

// Scales a frame's rows and returns those that are kept.
function withRows({ data, height, width }, part) {
  const { scaled: tall, start, to } = part;
  const line = width * 3;
  if (height === tall) {
    return { data: data.subarray(start * line, (start + to) * line), height: to, width };
  }
  const { bits, kernels: rows } = kernels(height, part);
  const scaled = new Uint8ClampedArray(to * line);
  const sums = new Int32Array(line);
  rows.forEach(({ first, weights }, y) => {
    sums.fill(1 << (bits - 1));
    weights.forEach((weight, k) => {
      const at = (first + k) * line;
      for (let x = 0; x < line; x += 1) sums[x] += weight * data[at + x];
    });
    for (let x = 0; x < line; x += 1) scaled[y * line + x] = sums[x] >> bits;
  });
  return { data: scaled, height: to, width };
}

// Scales a frame's columns and returns those that are kept.
function withColumns({ data, height, width }, part) {
  const { scaled: wide, start, to } = part;
  const scaled = new Uint8ClampedArray(height * to * 3);
  if (width === wide) {
    for (let y = 0; y < height; y += 1) {
      const from = (y * width + start) * 3;
      scaled.set(data.subarray(from, from + to * 3), y * to * 3);
    }
    return scaled;
  }
  const { bits, kernels: columns } = kernels(width, part);
  const half = 1 << (bits - 1);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < to; x += 1) {
      const { first, weights } = columns[x];
      let [r, g, b] = [half, half, half];
      let at = (y * width + first) * 3;
      for (const weight of weights) {
        r += weight * data[at];
        g += weight * data[at + 1];
        b += weight * data[at + 2];
        at += 3;
      }
      const out = (y * to + x) * 3;
      scaled[out] = r >> bits;
      scaled[out + 1] = g >> bits;
      scaled[out + 2] = b >> bits;
    }
  }
  return scaled;
}

// Resizes the frame { data, height, width } to `height` × `width` pixels.
function covering(frame, height, width) {
  if (frame.height === height && frame.width === width) return frame.data;
  const k = Math.max(height / frame.height, width / frame.width);
  return withColumns(withRows(frame, kept(frame.height, k, height)), kept(frame.width, k, width));
}
