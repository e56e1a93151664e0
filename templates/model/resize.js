// Frames to the network's size, as in training (src/cpu/resize.rs): scaled so that they cover it, then
// cut in the centre. Bilinear; when shrinking, the kernel widens with the scale. Pixels are RGB, one
// byte each.

// For each output of an axis the first input and the weights of those from there on.
function kernels(from, to) {
  const scale = from / to;
  const radius = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(Math.floor(center - radius), 0);
    const end = Math.min(Math.ceil(center + radius), from);
    const weights = [];
    let sum = 0;
    for (let x = first; x < end; x += 1) {
      const weight = Math.max(1 - Math.abs(x - center + 0.5) / radius, 0);
      weights.push(weight);
      sum += weight;
    }
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

// Scales { data, height, width } along both axes, rounding after each.
function scale({ data, height, width }, toHeight, toWidth) {
  const wide = new Uint8ClampedArray(height * toWidth * 3);
  const columns = kernels(width, toWidth);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < toWidth; x += 1) {
      const { first, weights } = columns[x];
      let [r, g, b] = [0, 0, 0];
      let at = (y * width + first) * 3;
      for (const weight of weights) {
        r += weight * data[at];
        g += weight * data[at + 1];
        b += weight * data[at + 2];
        at += 3;
      }
      const to = (y * toWidth + x) * 3;
      wide[to] = r;
      wide[to + 1] = g;
      wide[to + 2] = b;
    }
  }
  const scaled = new Uint8ClampedArray(toHeight * toWidth * 3);
  const rows = kernels(height, toHeight);
  const line = toWidth * 3;
  const sums = new Float64Array(line);
  for (let y = 0; y < toHeight; y += 1) {
    const { first, weights } = rows[y];
    sums.fill(0);
    weights.forEach((weight, k) => {
      const at = (first + k) * line;
      for (let x = 0; x < line; x += 1) sums[x] += weight * wide[at + x];
    });
    for (let x = 0; x < line; x += 1) scaled[y * line + x] = sums[x];
  }
  return scaled;
}

// The frame { data, height, width } as `height` × `width` pixels.
function covering(frame, height, width) {
  if (frame.height === height && frame.width === width) return frame.data;
  const k = Math.max(height / frame.height, width / frame.width);
  const [tall, wide] = [[frame.height, height], [frame.width, width]].map(([side, to]) =>
    Math.max(to, Math.floor(side * k + 0.5)));
  const scaled = scale(frame, tall, wide);
  const top = Math.floor((tall - height) / 2);
  const left = Math.floor((wide - width) / 2);
  const cut = new Uint8ClampedArray(height * width * 3);
  for (let y = 0; y < height; y += 1) {
    const from = ((top + y) * wide + left) * 3;
    cut.set(scaled.subarray(from, from + width * 3), y * width * 3);
  }
  return cut;
}
