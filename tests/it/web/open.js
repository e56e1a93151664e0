// Opens the exported page, which the test serves as `model.html`, in a frame.
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

// The page once it is loaded: its frame, `find(id)`, and `choose(files)`, which waits for a view or a
// problem.
async function open() {
  const html = await (await fetch('/files/model.html')).text();
  const frame = document.createElement('iframe');
  frame.srcdoc = html.replace('<head>', `<head>${watch}`);
  document.body.append(frame);
  await new Promise((done) => frame.addEventListener('load', done, { once: true }));
  const page = frame.contentDocument;
  const find = (id) => page.getElementById(id);
  const views = () => [...page.querySelectorAll('#views li')];
  const choose = async (files) => {
    const chosen = new DataTransfer();
    for (const file of files) chosen.items.add(file);
    const before = views().length;
    find('files').files = chosen.files;
    find('files').dispatchEvent(new Event('change'));
    await until('a view', () => views().length > before || !find('problem').hidden);
  };
  // Presses Run and waits; the answer, if there is one.
  const answered = async () => {
    await until('the button', () => !find('run').disabled);
    find('run').click();
    await until('an answer', () => !find('answer').hidden || !find('problem').hidden);
    return find('answer').hidden ? undefined : JSON.parse(find('json').textContent);
  };
  return { window: frame.contentWindow, find, views, choose, answered };
}

// Pictures that differ from each other.
async function pictures(count) {
  const canvas = new OffscreenCanvas(32, 24);
  const context = canvas.getContext('2d');
  const made = [];
  for (let number = 0; number < count; number += 1) {
    context.fillStyle = `hsl(${number * 40} 80% 50%)`;
    context.fillRect(0, 0, 32, 24);
    made.push(new File([await canvas.convertToBlob()], `${number}.png`, { type: 'image/png' }));
  }
  return made;
}
