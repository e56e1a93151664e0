// The page: takes clips, shows their frames, and predicts.

const element = (id) => document.getElementById(id);
const model = JSON.parse(element('about').textContent);
const plural = (count, word) => `${count} ${word}${count === 1 ? '' : 's'}`;
const percent = (share) => `${(share * 100).toFixed(1)} %`;

// Creates an element with attributes and children; text is never parsed as HTML.
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && typeof value !== 'string') made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Decodes and concatenates base64 texts.
function decoded(texts) {
  const pieces = texts.map((text) => {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const pieceLength = 1 << 20;
    const bytes = [];
    for (let at = 0; at < text.length; at += pieceLength) {
      bytes.push(Uint8Array.from(atob(text.slice(at, at + pieceLength)), (c) => c.charCodeAt(0)));
    }
    return bytes;
  }).flat();
  const all = new Uint8Array(model.bytes);
  let at = 0;
  for (const piece of pieces) {
    if (at + piece.length > all.length) throw new Problem('The weights of this page are damaged.');
    all.set(piece, at);
    at += piece.length;
  }
  if (at !== all.length) {
    throw new Problem('The weights of this page are incomplete. If it is a folder, keep its files together.');
  }
  return all.buffer;
}

const views = [];
let busy = false;
// Number of `add` calls in progress, and number of changes of the clips.
let adding = 0;
let changes = 0;
let opening;
let weights;

function say(problem) {
  const { hidden } = element('problem');
  element('problem').hidden = !problem;
  element('problem').textContent = problem ?? '';
  if (problem && hidden) element('problem').scrollIntoView?.({ block: 'nearest' });
}

const words = (error) => (error instanceof Problem ? error.message
  : `Something went wrong: ${error?.message ?? error}`);

// Returns the network with its weights on the device, which is opened on first use.
function network() {
  opening ??= (async () => {
    weights ??= decoded(window.modelWeights ?? [element('weights').textContent.trim()]);
    return { bytes: weights, network: await Network.open(model, weights) };
  })();
  return opening;
}

// Closes the network after a failure, which releases its memory; it is opened again on the next use.
function closeNetwork() {
  opening?.then((opened) => opened.network.close(), () => {});
  opening = undefined;
}

// The views that are used: those beyond the network's maximum are left out, as by `predict`.
const taken = () => views.slice(0, model.input.maxViews ?? Infinity);

function update() {
  const most = model.input.maxViews;
  const ready = taken().filter((view) => (view.bytes && view.at === view.shift) || model.server);
  element('run').disabled = busy || adding > 0 || ready.length === 0 || ready.length < taken().length;
  element('clips').hidden = views.length === 0;
  const notes = [];
  if (most && views.length > most) {
    notes.push(`The network takes ${plural(most, 'view')}: only the first ${most === 1 ? 'clip is' : `${most} clips are`} used.`);
  }
  if (ready.length === 1 && most !== 1) {
    notes.push('One view: add the other cameras of the same action for a more certain answer.');
  }
  element('note').textContent = notes.join(' ');
}

// Hides the prediction, which is stale once the clips have changed.
function forget() {
  changes += 1;
  element('answer').hidden = true;
  for (const view of views) mark(view);
  update();
}

// Draws the window's frames as a strip.
function draw(view) {
  const [count, height, width] = model.input.size;
  const [tall, wide] = [72, Math.round((72 * width) / height)];
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  const canvas = view.strip;
  canvas.width = count * wide * scale;
  canvas.height = tall * scale;
  canvas.style.width = `${count * wide}px`;
  const context = canvas.getContext('2d');
  const frame = new OffscreenCanvas(width, height);
  const pixels = new ImageData(width, height);
  for (let t = 0; t < count; t += 1) {
    const from = t * height * width * 3;
    for (let i = 0; i < height * width; i += 1) {
      pixels.data[4 * i] = view.bytes[from + 3 * i];
      pixels.data[4 * i + 1] = view.bytes[from + 3 * i + 1];
      pixels.data[4 * i + 2] = view.bytes[from + 3 * i + 2];
      pixels.data[4 * i + 3] = 255;
    }
    frame.getContext('2d').putImageData(pixels, 0, 0);
    context.drawImage(frame, t * wide * scale, 0, wide * scale, tall * scale);
  }
}

const HIDDEN = 'This browser cannot show it; the server may still read it.';

// Shows which part of its clip a view is.
function describe({ clip, shift, moment, slider }) {
  const { first, last } = pick(model.input, clip.info, shift);
  const { frames, fps } = clip.info;
  const shown = (frame) => (frame / fps).toFixed(2);
  const ends = first < 0 || last >= frames;
  moment.textContent = `frames ${first} to ${last} of ${frames}, ${shown(first)} to ${shown(last)} s`
    + (ends ? '; the window extends beyond the clip, whose outermost frame is repeated' : '');
  slider?.setAttribute('aria-valuetext', moment.textContent);
}

// Reads the frames of a view at its current position.
async function load(view) {
  const { clip, shift } = view;
  view.at = shift;
  view.bytes = undefined;
  if (!clip.info) {
    view.strip.hidden = true;
    view.moment.textContent = HIDDEN;
    return;
  }
  describe(view);
  const { indices } = pick(model.input, clip.info, shift);
  try {
    const bytes = await read(clip, indices, model.input.size);
    // The slider may have moved on, or the view may be gone.
    if (view.shift !== shift || view.removed) return;
    view.bytes = bytes;
    draw(view);
  } catch (error) {
    if (view.removed) return;
    view.moment.textContent = model.server ? HIDDEN : `${isolated(clip.name)}: ${error.message ?? 'cannot be read'}`;
    if (!model.server) say(view.moment.textContent);
  }
}

// Reads until the frames are those of the view's current position. Dragging the slider requests many
// positions; while one is read, only the last of the others counts.
function reload(view) {
  const catchUp = async () => {
    while (view.at !== view.shift && !view.removed) await load(view);
  };
  view.loading ??= catchUp().finally(() => {
    view.loading = undefined;
    update();
  });
  return view.loading;
}

function show(clip) {
  const view = { clip, shift: 0 };
  const name = clip.name;
  view.strip = make('canvas', { class: 'strip', role: 'img', 'aria-label': `Frames of ${name}` });
  view.moment = make('p', { class: 'moment' });
  const remove = make('button', { type: 'button', class: 'quiet', 'aria-label': `Remove ${name}` }, 'Remove');
  remove.addEventListener('click', () => {
    view.removed = true;
    views.splice(views.indexOf(view), 1);
    view.item.remove();
    clip.close();
    forget();
    element('files').focus();
  });
  const head = make('div', { class: 'head' }, make('h3', {}, name), remove);
  view.item = make('li', {}, head, make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': `Strip of ${name}` }, view.strip));
  if (canMove(model.input) && !model.server) {
    const { first, last } = pick(model.input, clip.info);
    const [min, max] = [Math.min(-first, 0), Math.max(clip.info.frames - 1 - last, 0)];
    view.slider = make('input', { type: 'range', min: `${min}`, max: `${max}`, value: '0', step: '1', 'aria-label': `Moment of ${name}` });
    view.slider.addEventListener('input', () => {
      const shift = view.slider.valueAsNumber;
      if (shift === view.shift) return;
      view.shift = shift;
      describe(view);
      forget();
      reload(view);
    });
    view.item.append(view.slider);
  }
  view.item.append(view.moment);
  element('views').append(view.item);
  views.push(view);
  forget();
  return reload(view);
}

// A server may decode what this browser cannot.
async function openVideo(file) {
  if (!model.server) {
    if (file.type.startsWith('text/')) throw new Error('it is neither a video nor an image');
    return VideoClip.open(file);
  }
  return VideoClip.open(file).catch(() => new HiddenClip(file));
}

const isImage = (file) => /\.(jpe?g|png|bmp|webp)$/i.test(file.name);

// Returns a name for each folder: the shortest end of its path that distinguishes it from the others.
function folderNames(paths) {
  const ends = (path, end) => `/${path}`.endsWith(`/${end}`);
  return paths.map((path) => {
    const parts = path.split('/');
    const names = parts.map((_, k) => parts.slice(parts.length - 1 - k).join('/'));
    return names.find((name) => !paths.some((other) => other !== path && ends(other, name))) ?? path;
  });
}

// Adds files that were chosen or dropped, given as pairs [path of the folder or '', file].
async function add(chosen) {
  say();
  const visible = chosen.filter(([, file]) => !file.name.startsWith('.'));
  const folders = new Map();
  const failures = [];
  const opened = [];
  for (const [folder, file] of visible) {
    if (isImage(file)) folders.set(folder, [...(folders.get(folder) ?? []), file]);
    else opened.push([file.name, () => openVideo(file)]);
  }
  const names = folderNames([...folders.keys()]);
  for (const [k, files] of [...folders.values()].entries()) {
    const name = names[k] || plural(files.length, 'image');
    opened.push([name, async () => {
      if (model.server) throw new Error('the server takes videos, not images');
      return ImageClip.open(name, files);
    }]);
  }
  adding += 1;
  for (const [name, open] of opened) {
    try {
      await show(await open());
    } catch (error) {
      failures.push(`${isolated(name)}: ${error.message}`);
    }
  }
  adding -= 1;
  update();
  if (failures.length > 0) say(`Left out: ${failures.join('; ')}.`);
  if (visible.length === 0) say('There is neither a video nor an image among these files.');
}

// Returns the files that were dropped as pairs [path of the folder or '', file].
async function dropped(transfer) {
  const entries = [...(transfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) return [...(transfer?.files ?? [])].map((file) => ['', file]);
  const found = [];
  const walk = async (entry, folder) => {
    if (entry.isFile) {
      found.push([folder, await new Promise((done, fail) => entry.file(done, fail))]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, fail) => reader.readEntries(done, fail));
      if (some.length === 0) return;
      for (const inner of some) await walk(inner, entry.fullPath.replace(/^\//, ''));
    }
  };
  for (const entry of entries) await walk(entry, '');
  return found;
}

// Runs the network on this device; `at(share, text)` shows the progress. Returns the arguments of `present`.
async function runHere(used, at) {
  const started = performance.now();
  const { bytes, network: opened } = await network();
  element('loaded').textContent = `${opened.name}: ${Math.ceil(opened.allocated / MIB)} MiB of graphics memory in use`;
  const features = [];
  const gpu = [];
  for (const [k, view] of used.entries()) {
    const clip = normalised(view.bytes, model.input);
    const layers = (layer, of) =>
      at((k + layer / of) / used.length, `view ${k + 1} of ${used.length}, layer ${layer} of ${of}`);
    layers(0, opened.layers.length);
    const found = await opened.features(clip, layers);
    features.push(found.features);
    gpu.push(found.seconds);
  }
  const values = ({ offset, count }) => new Float32Array(bytes, offset, count);
  const { tasks, shares } = classify(model, features, values);
  if (![...tasks.flat(), ...shares].every(Number.isFinite)) {
    throw new Problem('The scores are not finite: the graphics device has computed wrong values.');
  }
  const seconds = (performance.now() - started) / 1000;
  const ranked = ({ classes }, k) => tasks[k].map((confidence, index) => ({ class: classes[index], confidence }))
    .sort((a, b) => b.confidence - a.confidence);
  const per = gpu.every((time) => time !== undefined)
    ? `; on the GPU ${gpu.map((time) => `${time.toFixed(2)} s`).join(', ')}` : '';
  return [{
    model: model.name,
    tasks: Object.fromEntries(model.tasks.map((task, k) => [task.name, ranked(task, k)])),
    views: used.map((view, k) => ({ clip: view.clip.name, share: shares[k], shift: view.shift })),
    seconds,
  }, `${seconds.toFixed(1)} s for ${plural(used.length, 'view')} on ${opened.name}${per}`];
}

async function run() {
  busy = true;
  say();
  forget();
  const [status, progress] = [element('status'), element('progress')];
  element('working').hidden = false;
  const at = (share, text) => {
    if (share === undefined) progress.removeAttribute('value');
    else progress.value = share;
    status.textContent = text;
  };
  at(undefined, 'preparing');
  const before = changes;
  try {
    // Copies of the views: the slider may give a view other frames in the meantime.
    const used = taken().map((view) => ({ ...view, shown: view }));
    const [found, time] = await (model.server ? askServer : runHere)(used, at);
    if (changes === before) present(found, time);
    else say('The clips were changed during the run: press Run again.');
  } catch (error) {
    closeNetwork();
    say(words(error));
  } finally {
    busy = false;
    element('working').hidden = true;
    update();
  }
}

function start() {
  const withoutFolder = (files) => [...files].map((file) => ['', file]);
  const folder = (path) => path.split('/').slice(0, -1).join('/');
  const fromFolder = (files) => [...files].map((file) => [folder(file.webkitRelativePath), file]);
  const chosen = (id, pairs) => element(id).addEventListener('change', ({ target }) => {
    const files = pairs(target.files);
    target.value = '';
    if (files.length > 0) add(files);
  });
  chosen('files', withoutFolder);
  chosen('folder', fromFolder);
  element('run').addEventListener('click', run);
  element('copy').addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(element('json').textContent);
      element('copied').textContent = 'Copied.';
    } catch {
      element('details').open = true;
      getSelection().selectAllChildren(element('json'));
      element('copied').textContent = 'The browser does not allow copying here: the text is selected below.';
    }
  });
  const zone = element('drop');
  addEventListener('dragover', (event) => {
    event.preventDefault();
    zone.classList.add('over');
  });
  addEventListener('dragleave', ({ relatedTarget }) => {
    if (!relatedTarget) zone.classList.remove('over');
  });
  addEventListener('drop', async (event) => {
    event.preventDefault();
    zone.classList.remove('over');
    try {
      await add(await dropped(event.dataTransfer));
    } catch (error) {
      say(words(error));
    }
  });
  if (!model.server) Network.adapter().catch((error) => say(words(error)));
  update();
}

start();
