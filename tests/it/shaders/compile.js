// Compiles every text; returns the device's features, and which texts were refused and why.
export async function run({ texts }) {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error('no WebGPU adapter');
  const requiredFeatures = ['subgroups', 'shader-f16'].filter((name) => adapter.features.has(name));
  const device = await adapter.requestDevice({ requiredFeatures });
  const refused = {};
  for (const [name, code] of Object.entries(texts)) {
    device.pushErrorScope('validation');
    const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
    await device.popErrorScope();
    const error = messages.find(({ type }) => type === 'error');
    if (error) refused[name] = `${error.lineNum}: ${error.message}`;
  }
  return { features: requiredFeatures, refused };
}
