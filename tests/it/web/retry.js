
// Runs while the device fails: as it is opened, as it computes, and not at all. Answers with the number of
// devices that were opened and destroyed, how often weights were decoded, and the problems.
export async function run() {
  const { window, find, choose, answered } = await open();
  const calls = {};
  const watched = (object, name, instead = {}) => {
    const original = object[name];
    calls[name] = 0;
    object[name] = function (...all) {
      calls[name] += 1;
      return (instead[calls[name]] ?? original).apply(this, all);
    };
  };
  const fails = () => Promise.reject(new Error('as the test wants it'));
  const { GPUAdapter, GPUDevice, GPUBuffer, Uint8Array } = window;
  watched(GPUAdapter.prototype, 'requestDevice');
  watched(GPUDevice.prototype, 'destroy');
  watched(GPUDevice.prototype, 'createComputePipelineAsync', { 1: fails });
  watched(GPUBuffer.prototype, 'mapAsync', { 1: fails });
  const decoder = Uint8Array.fromBase64 ? [Uint8Array, 'fromBase64'] : [window, 'atob'];
  watched(...decoder);
  await choose(await pictures(9));
  const problems = [];
  const decodings = [];
  let json;
  for (let tries = 0; tries < 3; tries += 1) {
    json = await answered();
    problems.push(find('problem').textContent);
    decodings.push(calls[decoder[1]]);
  }
  return { json, problems, decodings, opened: calls.requestDevice, destroyed: calls.destroy, seen: window.seen };
}
