// Executes plans. Each of `cases` is { plan, operands, written }: `operands` are lists of f32, and
// `written` is the number of elements of the result, one more operand, which the plan writes. Returns
// the result's elements for each case.
const { STORAGE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;

// Creates a buffer with the given words at its start and NaN after them: contents that a plan has not
// written itself must not matter, and a result must be written completely. Sizes are multiples of a
// vec4, because structs with vectors and arrays of them are bound.
function buffer(device, bytes, words = []) {
  const contents = new Uint32Array(4 * Math.max(Math.ceil(bytes / 16), 1)).fill(0x7fc00000);
  contents.set(words);
  const made = device.createBuffer({ size: contents.byteLength, usage: STORAGE | COPY_SRC | COPY_DST });
  device.queue.writeBuffer(made, 0, contents);
  return made;
}

async function execute(device, pipeline, { plan, operands, written }) {
  const bits = (values) => new Uint32Array(Float32Array.from(values).buffer);
  const result = buffer(device, 4 * written);
  const buffers = {
    operand: [...operands.map((values) => buffer(device, 4 * values.length, bits(values))), result],
    scratch: plan.scratch.map((bytes) => buffer(device, bytes)),
    table: plan.tables.map((words) => buffer(device, 4 * words.length, words)),
  };
  const encoder = device.createCommandEncoder();
  for (const { shader, groups, buffers: slots, params } of plan.launches) {
    const bound = slots.map((slot) => {
      const [[kind, n]] = Object.entries(slot);
      return buffers[kind][n];
    });
    bound.push(buffer(device, 4 * params.length, params));
    const compute = await pipeline(plan.shaders[shader]);
    const entries = bound.map((one, binding) => ({ binding, resource: { buffer: one } }));
    const pass = encoder.beginComputePass();
    pass.setPipeline(compute);
    pass.setBindGroup(0, device.createBindGroup({ layout: compute.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(...groups);
    pass.end();
  }
  const read = device.createBuffer({ size: result.size, usage: MAP_READ | COPY_DST });
  encoder.copyBufferToBuffer(result, 0, read, 0, result.size);
  device.queue.submit([encoder.finish()]);
  await read.mapAsync(GPUMapMode.READ);
  return [...new Float32Array(read.getMappedRange())].slice(0, written);
}

export async function run({ cases }) {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error('no WebGPU adapter');
  const device = await adapter.requestDevice();
  const errors = [];
  device.addEventListener('uncapturederror', ({ error }) => errors.push(error.message));
  const pipelines = new Map();
  const pipeline = (code) => {
    if (!pipelines.has(code)) {
      const compute = { module: device.createShaderModule({ code }), entryPoint: 'main' };
      pipelines.set(code, device.createComputePipelineAsync({ layout: 'auto', compute }));
    }
    return pipelines.get(code);
  };
  const results = [];
  for (const one of cases) results.push(await execute(device, pipeline, one));
  if (errors.length > 0) throw new Error(errors.join('\n'));
  return results;
}
