// Uses the exported page as a person would: `files` are the names of clips that the test serves, and
// `images` lists of names that make a view each. Answers with the page's JSON, or its problem, and what
// it has written to the console or asked for.
const fetched = async (name) => new File([await (await fetch(`/files/${name}`)).blob()], name);

const until = async (what, condition) => {
  for (let tries = 0; tries < 2800; tries += 1) {
    const found = condition();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`${what} never came`);
};

// Runs in the page before its own scripts.
const watch = `<script>
window.seen = [];
for (const kind of ['log', 'info', 'warn', 'error', 'debug']) console[kind] = (...words) => seen.push(kind + ': ' + words.join(' '));
addEventListener('error', (event) => seen.push('error: ' + event.message));
addEventListener('unhandledrejection', (event) => seen.push('rejected: ' + event.reason));
addEventListener('securitypolicyviolation', (event) => seen.push('forbidden: ' + event.blockedURI));
</script>`;

export async function run({ files, images }) {
  const html = await (await fetch('/files/model.html')).text();
  const frame = document.createElement('iframe');
  frame.srcdoc = html.replace('<head>', `<head>${watch}`);
  document.body.append(frame);
  await new Promise((done) => frame.addEventListener('load', done, { once: true }));
  const page = frame.contentDocument;
  const find = (id) => page.getElementById(id);
  const choose = async (names) => {
    const chosen = new DataTransfer();
    for (const name of names) chosen.items.add(await fetched(name));
    const views = page.querySelectorAll('#views li').length;
    find('files').files = chosen.files;
    find('files').dispatchEvent(new Event('change'));
    await until('a view', () => page.querySelectorAll('#views li').length > views || !find('problem').hidden);
  };
  for (const name of files) await choose([name]);
  for (const names of images) await choose(names);
  const first = find('problem').hidden ? undefined : find('problem').textContent;
  let json;
  if (page.querySelectorAll('#views li').length > 0) {
    await until('the button', () => !find('run').disabled);
    find('run').click();
    await until('an answer', () => !find('answer').hidden || !find('problem').hidden);
    json = find('answer').hidden ? undefined : JSON.parse(find('json').textContent);
  }
  const asked = frame.contentWindow.performance.getEntriesByType('resource').map(({ name }) => name);
  return {
    json,
    problem: find('problem').hidden ? first : find('problem').textContent,
    seen: frame.contentWindow.seen,
    asked: asked.filter((name) => !name.startsWith('blob:')),
    shown: find('loaded').textContent,
  };
}
