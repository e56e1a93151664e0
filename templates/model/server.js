// Sends the clips to the page's own server (`polyview serve`), which runs the network. Returns the arguments
// of `present`.

async function askServer(used, at) {
  const form = new FormData();
  for (const { clip } of used) form.append('clip', clip.files[0], clip.name);
  at(undefined, 'uploading');
  const watch = setInterval(async () => {
    const queue = fetch('/api/queue').then((response) => response.json());
    const { waiting, running } = await queue.catch(() => ({}));
    if (waiting > 0) at(undefined, `${plural(waiting, 'request')} waiting`);
    else if (running) at(undefined, 'computing');
  }, 1000);
  try {
    const response = await fetch('/api/predictions', { method: 'POST', body: form })
      .catch(() => { throw new Problem('The server does not answer. Is it still running?'); });
    const found = await response.json();
    markLeft(used, found.unreadable ?? []);
    const left = (found.unreadable ?? []).map(({ reason }) => reason).join('; ');
    if (!response.ok) throw new Problem(`The server says: ${[found.error, left].filter(Boolean).join(': ')}.`);
    const waited = found.waited > 0.1 ? `, after ${found.waited.toFixed(1)} s in the queue` : '';
    return [found, `${found.seconds.toFixed(1)} s for ${plural(found.views.length, 'view')}${waited}`];
  } finally {
    clearInterval(watch);
  }
}
