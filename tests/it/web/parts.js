
// Calls the page's own functions, which come before this text, on the test's data.
const fetched = async (name) => new File([await (await fetch(`/files/${name}`)).blob()], name);

export async function run({ picks, resizes, planes, clips, numbers, turned }) {
  const bytes = async (name) => new Uint8ClampedArray(await (await fetched(name)).arrayBuffer());
  const resized = [];
  for (const { frame, from, to } of resizes) {
    const [height, width] = from;
    resized.push([...covering({ data: await bytes(frame), height, width }, ...to)]);
  }
  const colours = planes.map(({ y, u, v, width, height, matrix, full }) => {
    const plane = (data, stride) => ({ data, stride, offset: 0, step: 1 });
    const half = Math.ceil(width / 2);
    const all = { y: plane(y, width), u: plane(u, half), v: plane(v, half) };
    return [...yuvToRgb(all, width, height, matrix, full).data];
  });
  const opened = [];
  for (const name of clips) {
    const clip = await VideoClip.open(await fetched(name));
    const { frames, fps } = clip.info;
    const middle = [];
    await clip.frames([0, Math.floor(frames / 2), frames - 1], ({ data, height, width }) => {
      middle.push({ height, width, mean: data.reduce((a, b) => a + b, 0) / data.length, sum: data.reduce((a, b, i) => (a + b * (i % 251)) % 1e9, 0) });
    });
    opened.push({ frames, fps, middle });
  }
  // In a browser that does not say how a frame is turned.
  Object.defineProperty(VideoFrame.prototype, 'rotation', { value: undefined });
  const corners = [];
  for (const name of turned) {
    const clip = await VideoClip.open(await fetched(name));
    await clip.frames([0], ({ data }) => corners.push([...data.slice(0, 24)]));
  }
  const halved = numbers.map((values) => [...toHalves(Float32Array.from(values))]);
  return { halved, corners, picks: picks.map(({ input, info }) => pick(input, info).indices), resized, colours, opened };
}
