
// Removes a video whose frames never come, while it is being added and others are there. Answers with the
// milliseconds until Run can be pressed, and the page's problem.
export async function run() {
  const { window, find, views, choose } = await open();
  await choose(await pictures(9));
  await until('the button', () => !find('run').disabled);
  const { prototype } = window.HTMLMediaElement;
  const { set, get } = Object.getOwnPropertyDescriptor(prototype, 'currentTime');
  let waits = 0;
  Object.defineProperty(prototype, 'currentTime', { get, set: () => { waits += 1; }, configurable: true });
  await choose([await fetched('video.mp4')]);
  await until('a seek', () => waits > 0);
  Object.defineProperty(prototype, 'currentTime', { get, set, configurable: true });
  const started = performance.now();
  const disabled = find('run').disabled;
  views().at(-1).querySelector('button').click();
  await until('the button', () => !find('run').disabled);
  const waited = performance.now() - started;
  return { disabled, waited, waits, views: views().length, problem: find('problem').textContent, seen: window.seen };
}
