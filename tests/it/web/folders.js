
// Chooses, and then drops, folders of pictures, two of which have the same name. Answers with what the page
// says of the views of each.
export async function run() {
  const { window, find, views } = await open();
  const made = await pictures(9);
  // 4 of the first camera, 3 of the second, and 2 elsewhere.
  const places = Object.entries({ 'action/view_0/frames': 4, 'action/view_1/frames': 3, 'action/goal': 2 })
    .flatMap(([place, count]) => new Array(count).fill(place));
  const shown = async () => {
    await until('all views', () => views().length >= 3 && !find('run').disabled);
    const said = views().map((view) => [view.querySelector('h3').textContent, / of (\d+),/.exec(view.querySelector('.moment').textContent)[1]]);
    for (const view of views()) view.querySelector('button').click();
    return Object.fromEntries(said);
  };

  const input = find('folder');
  const files = made.map((file, k) => Object.defineProperty(file, 'webkitRelativePath', { value: `${places[k]}/${file.name}` }));
  Object.defineProperty(input, 'files', { value: files });
  input.dispatchEvent(new Event('change'));
  const chosen = await shown();

  // The same as a tree of entries, which only the browser can make.
  const folder = (fullPath) => {
    const inside = made.filter((_, k) => `/${places[k]}` === fullPath)
      .map((file) => ({ isFile: true, file: (done) => done(file) }));
    const below = new Set(places.map((place) => `/${place}`).filter((place) => place.startsWith(`${fullPath}/`))
      .map((place) => place.slice(fullPath.length + 1).split('/')[0]));
    const all = [...inside, ...[...below].map((name) => folder(`${fullPath}/${name}`))];
    return { isFile: false, name: fullPath.split('/').at(-1), fullPath, createReader: () => ({ readEntries: (done) => done(all.splice(0)) }) };
  };
  const items = [{ webkitGetAsEntry: () => folder('/action') }];
  window.dispatchEvent(Object.assign(new Event('drop'), { dataTransfer: { items } }));
  const dropped = await shown();
  return { chosen, dropped, problem: find('problem').textContent, seen: window.seen };
}
