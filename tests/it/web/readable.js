// Measures a page, which the test serves as `page`: `what` says what of it.

const at = async (width) => {
  const frame = document.createElement('iframe');
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.srcdoc = await (await fetch('/files/page')).text();
  document.body.append(frame);
  await new Promise((done) => frame.addEventListener('load', done, { once: true }));
  return frame.contentDocument;
};

// The rules for paper or for the dark hold from now on.
function force(page, condition) {
  for (const sheet of page.styleSheets) {
    for (const rule of sheet.cssRules) {
      if (rule.media?.mediaText.includes(condition)) rule.media.mediaText = 'all';
    }
  }
}

const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });

function luminance(colour) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
    .map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

const contrast = (one, other) => {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};

async function contrasts(dark) {
  const page = await at(1280);
  if (dark) force(page, 'dark');
  const style = (element) => page.defaultView.getComputedStyle(element);
  const cells = [...page.querySelectorAll('.confusion tbody td')];
  // Many are alike.
  const pairs = new Set(cells.map((cell) => `${style(cell).color}|${style(cell).backgroundColor}`));
  const of = [...pairs].map((pair) => contrast(...pair.split('|')));
  const paper = style(page.body).backgroundColor;
  const lines = [1, 2, 3, 4, 5, 6, 7, 8].map((number) => {
    page.querySelector('h1').style.color = `var(--c${number})`;
    return contrast(style(page.querySelector('h1')).color, paper);
  });
  return { count: cells.length, cells: Math.min(...of), lines: Math.min(...lines) };
}

const box = (element) => element.getBoundingClientRect();
const name = (element) => `${element.tagName}.${element.className}`;

async function matrix() {
  const wide = await at(1280);
  const table = wide.querySelector('.confusion');
  const columns = [...table.rows[1].cells].slice(1)
    .filter((cell) => box(cell).right <= box(table.parentElement).right + 1).length;

  const phone = await at(390);
  const scroll = phone.querySelector('.confusion').parentElement;
  const head = scroll.querySelector('tbody th');
  const before = box(head).left;
  scroll.scrollLeft = 400;
  const sticks = scroll.scrollLeft === 400 && Math.abs(box(head).left - before) < 3
    && phone.defaultView.getComputedStyle(head).backgroundColor !== 'rgba(0, 0, 0, 0)';
  const lines = head.querySelector('bdi').getClientRects().length
    && Math.round(box(head.querySelector('bdi')).height / parseFloat(phone.defaultView.getComputedStyle(head).lineHeight));

  // A4 at 96 dots per inch, less the margins.
  const page = await at(718);
  force(page, 'print');
  const style = (element) => page.defaultView.getComputedStyle(element);
  const all = (selector) => [...page.querySelectorAll(selector)];
  return {
    columns,
    sticks,
    lines,
    paper: {
      beyond: all('.confusion, .per-class, svg').filter((element) => box(element).right > 719).map(name),
      hidden: all('.scroll, .frames').filter((element) => style(element).overflowX !== 'visible').map(name),
      lost: all('.legend i, .confusion td[style], .bar, progress').filter((element) => style(element).printColorAdjust !== 'exact').map(name),
      split: all('figure, article, tr').filter((element) => style(element).breakInside !== 'avoid').map(name),
    },
  };
}

// By how much the page is wider than a phone, and what of it.
async function width() {
  const page = await at(390);
  const { scrollWidth, clientWidth } = page.scrollingElement;
  const beyond = [...page.querySelectorAll('body *')]
    .filter((element) => !element.closest('.scroll, svg') && box(element).right > clientWidth + 1);
  return [scrollWidth - clientWidth, beyond.map((element) => `${name(element)}: ${box(element).right}`)];
}

export async function run({ what }) {
  if (what === 'contrast') return { light: await contrasts(false), dark: await contrasts(true) };
  return what === 'matrix' ? matrix() : width();
}
