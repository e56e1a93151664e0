// Runs the backbone on WebGPU: a program of buffers, shaders and launches planned by polyview
// (src/web/program.rs).

const MIB = 2 ** 20;

// An error whose message is for the user.
class Problem extends Error {}

// Creates the error for a network that does not fit, which suggests a size that does.
function tooLarge(model, what, fits) {
  const [t, ...sides] = model.input.size;
  const smaller = model.smaller.find(({ memory }) => fits(memory));
  const advice = smaller
    ? `export the model again with --size ${smaller.size.join(',')}`
    : 'export the model again with a smaller --size';
  return new Problem(`Clips of ${[t, ...sides].join('×')} need ${what}. To run it here, ${advice}.`);
}

// Returns a table of all f16 numbers, indexed by their bits.
function halves() {
  return Float32Array.from({ length: 65536 }, (_, bits) => {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  });
}

// Converts f16 bits to numbers; `table` is from `halves`.
function widened(bits, table) {
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i += 1) values[i] = table[bits[i]];
  return values;
}

// Converts numbers to f16 bits, rounded to the nearest, ties to even. An odd number of values is padded with
// a zero, for which buffers have room: WebGPU only writes whole 32-bit words.
function toHalves(values) {
  const bits = new Uint32Array(values.length + (values.length % 2));
  bits.set(new Uint32Array(values.buffer, values.byteOffset, values.length));
  return Uint16Array.from(bits, (word) => {
    const sign = (word >>> 16) & 0x8000;
    const rest = word & 0x7fffffff;
    if (rest >= 0x477ff000) return sign | 0x7bff; // beyond the range, which never happens with clips
    if (rest < 0x38800000) {
      return sign | Math.round(new Float32Array(Uint32Array.of(rest).buffer)[0] * 2 ** 24);
    }
    return sign | ((rest - 0x38000000 + 0xfff + ((rest >>> 13) & 1)) >>> 13);
  });
}

class Network {
  // Returns the browser's graphics adapter, from which `open` requests a device.
  static async adapter() {
    if (!navigator.gpu) {
      throw new Problem('This browser has no WebGPU. Chrome and Edge 113, Safari 26 and Firefox 141 '
        + '(on Windows) or later have it; on Linux, Chrome may need chrome://flags/#enable-unsafe-webgpu.');
    }
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
    if (!adapter) {
      throw new Problem('This browser has WebGPU but offers no graphics device. Is hardware acceleration '
        + 'switched on in its settings?');
    }
    return adapter;
  }

  // Opens a device and prepares the network on it. `weights` holds the bytes of all weights.
  static async open(model, weights) {
    const adapter = await Network.adapter();
    const network = new Network();
    const { info, features, limits } = adapter;
    const about = [info.vendor, info.architecture, info.device, info.description].filter(Boolean);
    const software = info.isFallbackAdapter || /swiftshader|llvmpipe|basic render/i.test(about);
    network.name = [...new Set(about)].join(' ') || 'a graphics device';
    network.model = model;
    const sized = (lanes) =>
      software && info.subgroupMinSize === lanes && info.subgroupMaxSize === lanes;
    network.program = model.programs.find((program) =>
      (program.subgroup === undefined || sized(program.subgroup))
      && program.features.every((name) => features.has(name)));
    const { largest } = network.program.memory;
    for (const limit of ['maxBufferSize', 'maxStorageBufferBindingSize']) {
      if (limits[limit] < largest) {
        throw tooLarge(model, `a buffer of ${Math.ceil(largest / MIB)} MiB, and ${network.name} allows `
          + `${Math.floor(limits[limit] / MIB)} MiB`, (memory) => memory.largest <= limits[limit]);
      }
    }
    const timed = features.has('timestamp-query');
    const device = await adapter.requestDevice({
      requiredFeatures: [...network.program.features, ...(timed ? ['timestamp-query'] : [])],
      requiredLimits: {
        maxBufferSize: Math.max(largest, 256 * MIB),
        maxStorageBufferBindingSize: Math.max(largest, 128 * MIB),
      },
    });
    network.device = device;
    network.failed = new Promise((_, reject) => {
      device.lost.then(({ message }) =>
        reject(new Problem(`The graphics device was lost: ${message || 'no reason was given'}. `
          + 'Reload the page to try again.')));
      device.addEventListener('uncapturederror', ({ error }) => reject(error));
    });
    network.failed.catch(() => {});
    await network.load(weights).catch((error) => {
      network.close();
      throw error;
    });
    if (timed) {
      network.queries = device.createQuerySet({ type: 'timestamp', count: 2 });
      const { QUERY_RESOLVE, COPY_SRC } = GPUBufferUsage;
      network.ticks = device.createBuffer({ size: 16, usage: QUERY_RESOLVE | COPY_SRC });
    }
    return network;
  }

  // Creates buffers and pipelines, and uploads and prepares the weights.
  async load(weights) {
    const { device, program, model } = this;
    const { STORAGE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
    device.pushErrorScope('out-of-memory');
    this.buffers = program.buffers.map(({ bytes }) => {
      const size = Math.ceil(bytes / 16) * 16;
      return device.createBuffer({ size, usage: STORAGE | COPY_SRC | COPY_DST });
    });
    const { size } = this.buffers[program.output];
    this.result = device.createBuffer({ size: size + 16, usage: MAP_READ | COPY_DST });
    this.allocated = this.buffers.reduce((sum, buffer) => sum + buffer.size, 0);
    if (await device.popErrorScope()) {
      const needed = (memory) => memory.weights + memory.activations;
      throw tooLarge(model, `${Math.ceil(this.allocated / MIB)} MiB of graphics memory, which are not `
        + 'available', (memory) => needed(memory) < 0.6 * needed(program.memory));
    }
    this.table = model.half ? halves() : undefined;
    program.buffers.forEach(({ contents }, index) => {
      if (!contents) return;
      let values = contents.words && Uint32Array.from(contents.words);
      if (contents.weights) {
        const { offset, count, half } = contents.weights;
        values = half
          ? widened(new Uint16Array(weights, offset, count), this.table)
          : new Float32Array(weights, offset, count);
      }
      device.queue.writeBuffer(this.buffers[index], 0, values);
    });
    const pipelines = await Promise.all(program.shaders.map((code) => {
      const module = device.createShaderModule({ code });
      return device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
    }));
    const bound = ({ shader, groups, buffers, params }) => {
      const pipeline = pipelines[shader];
      const words = new Uint32Array(Math.ceil(params.length / 4) * 4);
      words.set(params);
      const last = device.createBuffer({ size: words.byteLength, usage: STORAGE | COPY_DST });
      device.queue.writeBuffer(last, 0, words);
      const all = [...buffers.map((index) => this.buffers[index]), last];
      const entries = all.map((buffer, binding) => ({ binding, resource: { buffer } }));
      const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
      return { pipeline, group, groups };
    };
    this.layers = program.layers.map(({ name, launches }) => ({ name, launches: launches.map(bound) }));
    this.submit(program.prepare.map(bound));
    program.buffers.forEach(({ temporary, bytes }, index) => {
      if (!temporary) return;
      this.buffers[index].destroy();
      this.allocated -= this.buffers[index].size;
    });
    await this.done();
  }

  // Releases the device and its memory.
  close() {
    this.device.destroy();
  }

  submit(launches, timestampWrites) {
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass({ timestampWrites });
    for (const { pipeline, group, groups } of launches) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...groups);
    }
    pass.end();
    this.device.queue.submit([encoder.finish()]);
  }

  // Waits for the submitted work; rejects if the device fails.
  done() {
    return Promise.race([this.device.queue.onSubmittedWorkDone(), this.failed]);
  }

  // Computes the features of a clip, [3, T, H, W] normalised; calls `progress(layer, of)` as layers are done.
  // Returns { features, seconds }; `seconds` is the time on the GPU, if the device has timestamps.
  async features(clip, progress) {
    const { device, program, queries } = this;
    const input = program.half ? toHalves(clip) : clip;
    device.queue.writeBuffer(this.buffers[program.input], 0, input);
    const end = this.layers.length - 1;
    this.layers.forEach(({ launches }, layer) => {
      const writes = queries && (layer === 0 || layer === end) ? { querySet: queries } : undefined;
      if (writes && layer === 0) writes.beginningOfPassWriteIndex = 0;
      if (writes && layer === end) writes.endOfPassWriteIndex = 1;
      this.submit(launches, writes);
      device.queue.onSubmittedWorkDone().then(() => progress(layer + 1, end + 1), () => {});
    });
    const output = this.buffers[program.output];
    const encoder = device.createCommandEncoder();
    if (queries) {
      encoder.resolveQuerySet(queries, 0, 2, this.ticks, 0);
      encoder.copyBufferToBuffer(this.ticks, 0, this.result, output.size, 16);
    }
    encoder.copyBufferToBuffer(output, 0, this.result, 0, output.size);
    device.queue.submit([encoder.finish()]);
    await Promise.race([this.result.mapAsync(GPUMapMode.READ), this.failed]);
    const bytes = this.result.getMappedRange().slice(0);
    this.result.unmap();
    const [channels, ...sizes] = program.result;
    const places = sizes.reduce((a, b) => a * b, 1);
    const values = program.half
      ? widened(new Uint16Array(bytes, 0, channels * places), this.table)
      : new Float32Array(bytes, 0, channels * places);
    const features = Array.from({ length: channels }, (_, channel) => {
      let sum = 0;
      for (let i = 0; i < places; i += 1) sum += values[channel * places + i];
      return sum / places;
    });
    let seconds;
    if (queries) {
      const [from, to] = new BigUint64Array(bytes, output.size, 2);
      if (to > from) seconds = Number(to - from) / 1e9;
    }
    return { features, seconds };
  }
}
