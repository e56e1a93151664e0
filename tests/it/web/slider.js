
// Drags the slider of a view of pictures and runs. Answers with the number of pictures that the page read
// for each drag, and whether it hid its answer.
export async function run() {
  const { window, find, views, choose, answered } = await open();
  await choose(await pictures(90));
  let pictured = 0;
  const { createImageBitmap } = window;
  window.createImageBitmap = (...all) => {
    pictured += 1;
    return createImageBitmap.apply(window, all);
  };
  const [view] = views();
  const slider = view.querySelector('input');
  const drag = async (shifts) => {
    pictured = 0;
    for (const shift of shifts) {
      slider.value = `${shift}`;
      slider.dispatchEvent(new Event('input'));
    }
    await until('the frames', () => !find('run').disabled);
    return pictured;
  };
  await until('the button', () => !find('run').disabled);
  const shifts = Array.from({ length: 40 }, (_, k) => -1 - k);
  const far = await drag(shifts);
  const back = await drag([-41, -40]);
  const json = await answered();
  const still = await drag([-40]);
  // No reading is left that would hide the answer.
  await new Promise((done) => setTimeout(done, 300));
  return { far, back, still, shift: json?.views[0].shift, hidden: find('answer').hidden, seen: window.seen };
}
