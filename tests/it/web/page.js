
// Uses the exported page as a person would: `files` are the names of clips that the test serves, and
// `images` lists of names that make a view each. Answers with the page's JSON, or its problem, and what
// it has written to the console or asked for.
export async function run({ files, images }) {
  const { window, find, views, choose, answered } = await open();
  for (const names of [...files.map((name) => [name]), ...images]) await choose(await Promise.all(names.map(fetched)));
  const first = find('problem').hidden ? undefined : find('problem').textContent;
  const json = views().length > 0 ? await answered() : undefined;
  const asked = window.performance.getEntriesByType('resource').map(({ name }) => name);
  return {
    json,
    problem: find('problem').hidden ? first : find('problem').textContent,
    seen: window.seen,
    asked: asked.filter((name) => !name.startsWith('blob:')),
    shown: find('loaded').textContent,
  };
}
