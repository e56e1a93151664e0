// Shows the prediction, with everything that qualifies it.

// Isolates the writing direction of a name from the words around it.
const named = (name) => make('bdi', {}, name);

// Does the same in plain text.
function isolated(name) {
  if (/^[\x00-\x7f]*$/.test(name)) return name;
  return `\u2068${name.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '')}\u2069`;
}

function bar(name, share, best) {
  const track = make('span', { class: 'track', 'aria-hidden': 'true' }, make('span', { style: `width:${share * 100}%` }));
  return make('tr', best ? { class: 'best' } : {}, make('th', { scope: 'row' }, named(name)), make('td', { class: 'gauge' }, track), make('td', { class: 'number' }, percent(share)));
}

function table(title, rows) {
  return make('table', { class: 'bars' }, make('caption', {}, ...title), make('tbody', {}, ...rows));
}

// Shows at a view why it was left out of the prediction; without a reason, removes the message.
function mark(view, reason) {
  view.left?.remove();
  view.left = reason && make('p', { class: 'left' }, `Left out: ${reason}`);
  if (reason) view.item.append(view.left);
}

// Returns the reason why a clip was left out, without the clip's name if the reason begins with it.
function why({ clip, reason }) {
  const start = `${clip}: `;
  return reason.startsWith(start) ? reason.slice(start.length) : reason;
}

// Marks the views that the server could not read, by their indices.
function markLeft(used, unreadable) {
  for (const one of unreadable) if (used[one.view]) mark(used[one.view].shown, why(one));
}

// Shows a prediction in the form of `polyview predict --json`, and a line about the time it took.
function present(found, time) {
  const clear = (id, ...children) => element(id).replaceChildren(...children);
  clear('tasks', ...model.tasks.map(({ name, title }) => {
    const undecided = found.undecided?.includes(name) ?? false;
    // An undecided task has no winner.
    const row = ({ class: label, confidence }, place) => bar(label, confidence, place === 0 && !undecided);
    return table(undecided ? [named(title), ': undecided'] : [title], found.tasks[name].map(row));
  }));
  clear('shares', table(['Attention weight of each view'], found.views.map(({ clip, share }) => bar(clip, share, false))));
  const left = found.unreadable ?? [];
  clear('left-out', ...left.map((one) => make('li', {}, 'Left out: ', named(one.clip), `: ${why(one)}`)));
  element('averaged').textContent = found.averaged > 1 ? `averaged over ${found.averaged} predictions` : '';
  element('time').textContent = time;
  element('json').textContent = JSON.stringify(found, null, 2);
  element('copied').textContent = '';
  element('answer').hidden = false;
  element('answer').focus();
}
