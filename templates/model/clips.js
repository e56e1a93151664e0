// Reads clips in the browser: videos, and folders of images.

// Weights of red and blue in luma, by the browsers' names of matrices.
const MATRICES = { bt709: [0.2126, 0.0722], 'bt2020-ncl': [0.2627, 0.0593] };
const USUAL_MATRIX = [0.299, 0.114];

// The upper 16 bits of a product, as in src/cpu/colour.rs.
const high = (a, b) => (a * b) >> 16;

// Converts planes of YUV 4:2:0 to RGB with the arithmetic of training (src/cpu/colour.rs), so that the bytes
// are the same.
function yuvToRgb({ y, u, v }, width, height, [kr, kb], full) {
  const kg = 1 - kr - kb;
  const short = (number) => Math.round(number / 8);
  const chroma = (factor, sign = 1) => {
    const stored = sign * Math.round(((factor * 255) / 224) * 65536);
    return short(full ? Math.trunc((stored * 224 + 127) / 255) : stored);
  };
  const black = full ? 0 : 128;
  const luma = short(full ? 65536 : Math.floor((255 * 65536) / 219));
  const toRed = chroma(2 * (1 - kr));
  const greenOfU = chroma((2 * kb * (1 - kb)) / kg, -1);
  const greenOfV = chroma((2 * kr * (1 - kr)) / kg, -1);
  const toBlue = chroma(2 * (1 - kb));
  const rgb = new Uint8ClampedArray(width * height * 3);
  for (let row = 0; row < height; row += 1) {
    let at = row * width * 3;
    for (let column = 0; column < width; column += 1) {
      const place = (row >> 1) * u.stride + (column >> 1) * u.step;
      const du = 8 * u.data[u.offset + place] - 1024;
      const dv = 8 * v.data[v.offset + place] - 1024;
      const light = high(8 * y.data[y.offset + row * y.stride + column] - black, luma);
      rgb[at] = light + high(dv, toRed);
      rgb[at + 1] = light + high(du, greenOfU) + high(dv, greenOfV);
      rgb[at + 2] = light + high(du, toBlue);
      at += 3;
    }
  }
  return { data: rgb, height, width };
}

// Gets the pixels of an image, video or canvas by drawing it.
function drawn(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(source, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const rgb = new Uint8ClampedArray(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    rgb[to] = data[from];
    rgb[to + 1] = data[from + 1];
    rgb[to + 2] = data[from + 2];
  }
  return { data: rgb, height, width };
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Returns the frame that a video shows, with its time; null if it shows none yet, undefined if the browser
// cannot tell.
function shownFrame(video) {
  if (!('VideoFrame' in window)) return undefined;
  try {
    return new VideoFrame(video);
  } catch {
    return null;
  }
}

// Waits until a video shows a frame whose time in seconds is right and returns it; null if that never
// happens. A browser may report the end of a seek before it shows the frame.
async function frameWhen(video, isRight) {
  for (let tries = 0; tries < 60; tries += 1) {
    const frame = shownFrame(video);
    if (frame === undefined) {
      await pause(50);
      return undefined;
    }
    if (frame && isRight(frame.timestamp / 1e6)) return frame;
    frame?.close();
    await pause(10);
  }
  return null;
}

// Turns a picture clockwise by quarter turns.
function turned({ data, height, width }, degrees) {
  if (!degrees) return { data, height, width };
  const sideways = degrees !== 180;
  const [tall, wide] = sideways ? [width, height] : [height, width];
  const result = new Uint8ClampedArray(data.length);
  for (let y = 0; y < tall; y += 1) {
    for (let x = 0; x < wide; x += 1) {
      const [row, column] = degrees === 90 ? [height - 1 - x, y]
        : degrees === 180 ? [height - 1 - y, width - 1 - x] : [x, width - 1 - y];
      const [from, to] = [(row * width + column) * 3, (y * wide + x) * 3];
      result[to] = data[from];
      result[to + 1] = data[from + 1];
      result[to + 2] = data[from + 2];
    }
  }
  return { data: result, height: tall, width: wide };
}

// Returns the pixels of a frame: as decoded, if the browser gives access to the planes and the rotation is
// known; otherwise as the browser draws the video. Non-square pixels stay as they are. `isTurned` is whether
// the file says that frames are rotated.
async function pixels(video, frame, isTurned) {
  const { format, visibleRect, colorSpace, rotation, flip } = frame ?? {};
  const [width, height] = [video.videoWidth, video.videoHeight];
  const plain = visibleRect?.width === width && visibleRect?.height === height;
  const known = rotation === undefined ? plain && !isTurned : !flip;
  if (!known || (format !== 'I420' && format !== 'NV12')) return drawn(video, width, height);
  const data = new Uint8Array(frame.allocationSize());
  const [y, second, third] = await frame.copyTo(data);
  const plane = ({ offset, stride }, step = 1, plus = 0) => ({ data, offset: offset + plus, stride, step });
  const planes = format === 'I420'
    ? { y: plane(y), u: plane(second), v: plane(third) }
    : { y: plane(y), u: plane(second, 2), v: plane(second, 2, 1) };
  const matrix = MATRICES[colorSpace.matrix] ?? USUAL_MATRIX;
  const size = [visibleRect.width, visibleRect.height];
  return turned(yuvToRgb(planes, ...size, matrix, colorSpace.fullRange === true), rotation);
}

const event = (target, name) => new Promise((resolve, reject) => {
  target.addEventListener(name, resolve, { once: true });
  target.addEventListener('error', reject, { once: true });
});

// A video file.
class VideoClip {
  static async open(file) {
    const clip = new VideoClip();
    clip.files = [file];
    clip.name = file.name;
    // Rejected when the clip is closed: a seek never ends once the video has lost its source.
    clip.closed = new Promise((_, reject) => { clip.end = () => reject(new Error('it was closed')); });
    clip.closed.catch(() => {});
    clip.address = URL.createObjectURL(file);
    clip.video = document.createElement('video');
    Object.assign(clip.video, { muted: true, preload: 'auto', playsInline: true });
    try {
      clip.video.src = clip.address;
      await event(clip.video, 'loadeddata');
      if (clip.video.videoWidth === 0) throw new Error('it has no pictures');
      // The first frame may be shown at another time than 0.
      const first = await frameWhen(clip.video, () => true);
      clip.origin = (first?.timestamp ?? 0) / 1e6;
      first?.close();
      // A damaged index may point anywhere.
      clip.isTurned = await isTurned(file).catch(() => false);
      clip.info = await timeline(file, clip.video, clip.origin);
    } catch (reason) {
      clip.close();
      const unplayable = clip.video.error || !(reason instanceof Error);
      throw new Error(unplayable
        ? 'this browser cannot decode it; convert it to mp4 (H.264), or use another browser'
        : reason.message);
    }
    return clip;
  }

  // Returns the pixels of frame `index`.
  async frame(index) {
    const [from, to] = this.info.times.slice(index, index + 2).map((time) => this.origin + time);
    const half = (to - from) / 2;
    const isRight = (time) => time >= from - half && time < from + half;
    // The first seek in a video may end too early.
    for (let tries = 0; tries < 3; tries += 1) {
      const arrived = event(this.video, 'seeked');
      // Seeks to the middle of the frame: at the boundary of two frames, a rounded time could select either.
      this.video.currentTime = from + half;
      const late = pause(10000).then(() => { throw new Error('the browser stopped reading it'); });
      await Promise.race([this.closed, arrived, late]);
      const frame = await frameWhen(this.video, isRight);
      if (frame === null) continue;
      try {
        return await pixels(this.video, frame, this.isTurned);
      } finally {
        frame?.close();
      }
    }
    throw new Error('this browser cannot seek to its frames; convert it to mp4 (H.264)');
  }

  // Calls `take(frame, position)` for each of the given frames, in order.
  async frames(indices, take) {
    let last;
    for (const [position, index] of indices.entries()) {
      if (index !== last?.index) {
        last = { index, frame: await this.frame(index) };
      }
      take(last.frame, position);
    }
  }

  close() {
    this.end();
    this.video.removeAttribute('src');
    this.video.load();
    URL.revokeObjectURL(this.address);
  }
}

// A file that this browser cannot show.
class HiddenClip {
  constructor(file) {
    this.files = [file];
    this.name = file.name;
  }

  close() {}
}

// Sorts files in the natural order of their names, like `natural_key` in src/data/natural.rs: text and numbers
// alternate, and of equal numbers the one with more leading zeros comes first.
function naturally(files) {
  const key = (name) => [...name.matchAll(/([^0-9]*)([0-9]*)/g)].filter(([all]) => all).flatMap(([, text, number]) => {
    const value = number.replace(/^0+/, '');
    return [text, value.length, value, value.length - number.length];
  });
  const compared = (a, b) => {
    for (let i = 0; i < Math.min(a.length, b.length); i += 1) {
      if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
    }
    return a.length - b.length;
  };
  const keyed = files.map((file) => [key(file.name), file]);
  return keyed.sort(([a], [b]) => compared(a, b)).map(([, file]) => file);
}

// A clip of images in the natural order of their names, at 25 frames per second as in training.
class ImageClip {
  static async open(name, files) {
    const clip = new ImageClip();
    clip.files = naturally([...files]);
    clip.name = name;
    clip.info = { frames: files.length, fps: 25 };
    return clip;
  }

  async frames(indices, take) {
    let last;
    for (const [position, index] of indices.entries()) {
      if (index !== last?.index) {
        const file = this.files[index];
        const image = await createImageBitmap(file, { colorSpaceConversion: 'none' })
          .catch(() => { throw new Error(`${file.name} is not an image that this browser reads`); });
        last = { index, frame: drawn(image, image.width, image.height) };
        image.close();
      }
      take(last.frame, position);
    }
  }

  close() {}
}

// Reads the frames of a clip at the given indices, at the network's size: [T, H, W, 3] in bytes.
async function read(clip, indices, [count, height, width]) {
  const size = height * width * 3;
  const bytes = new Uint8ClampedArray(count * size);
  let last;
  await clip.frames(indices, (frame, position) => {
    if (frame !== last?.frame) last = { frame, data: covering(frame, height, width) };
    bytes.set(last.data, position * size);
  });
  return bytes;
}

// Converts bytes [T, H, W, 3] to the network's input: [3, T, H, W], normalised.
function normalised(bytes, { size: [count, height, width], mean, std }) {
  const plane = count * height * width;
  const values = new Float32Array(3 * plane);
  for (let channel = 0; channel < 3; channel += 1) {
    const table = Float32Array.from({ length: 256 }, (_, v) => (v / 255 - mean[channel]) / std[channel]);
    for (let i = 0; i < plane; i += 1) values[channel * plane + i] = table[bytes[3 * i + channel]];
  }
  return values;
}
