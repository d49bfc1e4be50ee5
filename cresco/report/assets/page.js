// The page is whole without its script, the feature atlas aside. This adds hover values, keyboard reading of
// charts, the linear axes and the choice of colours; atlas.js the atlas. All data is put in as text: a token is
// text, whatever it spells. The page's one script is the files of this folder in one function.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const SVG = 'http://www.w3.org/2000/svg';

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  for (const child of children) element.append(child);  // strings become text nodes
  return element;
}
function makeSvg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
function dataOf(figure) {
  const block = $(':scope > script[type="application/json"]', figure);
  return block ? JSON.parse(block.textContent) : null;
}
function bytes(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; ++i) out[i] = text.charCodeAt(i);
  return out;
}

function number(value, digits = 5) {
  if (value === null || !Number.isFinite(value)) return '–';
  if (Number.isInteger(value)) return value.toLocaleString('en');
  const size = Math.abs(value);
  return size < 1e-3 ? value.toExponential(2) : value.toLocaleString('en', {maximumSignificantDigits: digits});
}

// The note beside the pointer.
const tip = $('.tip');
function showTip(x, y, title, lines) {
  tip.replaceChildren(make('strong', {}, title), ...lines.map((line) => make('span', {}, line)));
  tip.hidden = false;
  const box = tip.getBoundingClientRect(), gap = 14;
  const left = x + gap + box.width > innerWidth - 8 ? x - gap - box.width : x + gap;
  const top = y + gap + box.height > innerHeight - 8 ? y - gap - box.height : y + gap;
  tip.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(8, top)}px)`;
}
const hideTip = () => { tip.hidden = true; };
addEventListener('scroll', hideTip, {passive: true});

// From a pointer to the drawing's own units, and back.
function toDrawing(svg, event) {
  const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
  return [(event.clientX - box.left) * view.width / box.width, (event.clientY - box.top) * view.height / box.height];
}
function toScreen(svg, x, y) {
  const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
  return [box.left + x * box.width / view.width, box.top + y * box.height / view.height];
}

// The same rule as AxisLayout::place.
function placing(text) {
  const [scale, ...rest] = text.split(' ');
  const [low, high, begin, end, zero] = rest.map(Number);
  const f = {linear: (v) => v, log: Math.log10, log1p: (v) => Math.log10(1 + v)}[scale];
  return (value) => {
    if (value === null || !Number.isFinite(value) || (scale !== 'linear' && value < 0)) return NaN;
    if (scale === 'log' && value === 0) return zero;
    return begin + (f(value) - f(low)) / (f(high) - f(low)) * (end - begin);
  };
}

function setUpDrawing(svg, data) {
  let points = null, at = -1;
  const all = () => {
    if (points) return points;
    const x = placing(svg.dataset.x), y = placing(svg.dataset.y);
    points = [];
    data.series.forEach((series, s) => series.x.forEach((value, i) => {
      const px = x(value), py = y(series.y[i]);
      if (Number.isFinite(px) && Number.isFinite(py)) points.push({s, i, x: value, y: series.y[i], px, py});
    }));
    return points;
  };
  const here = $('.here', svg);
  function show(index) {
    at = index;
    const point = all()[index];
    here.setAttribute('cx', point.px);
    here.setAttribute('cy', point.py);
    const {name, labels} = data.series[point.s];
    showTip(...toScreen(svg, point.px, point.py), labels ? labels[point.i] : name,
      [...(labels && data.series.length > 1 ? [name] : []), `${data.y}: ${number(point.y)}`, `${data.x}: ${number(point.x)}`]);
  }
  function hide() {
    here.setAttribute('cx', -20);
    hideTip();
  }
  function onPointer(event) {
    const [x, y] = toDrawing(svg, event);
    let best = -1, nearest = 60 * 60;
    all().forEach((point, i) => {
      const distance = (point.px - x) ** 2 + (point.py - y) ** 2;
      if (distance < nearest) { nearest = distance; best = i; }
    });
    if (best < 0) hide(); else show(best);
  }
  svg.addEventListener('pointermove', onPointer);
  svg.addEventListener('pointerdown', onPointer);
  svg.addEventListener('pointerleave', hide);
  svg.addEventListener('blur', hide);
  svg.addEventListener('keydown', (event) => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (event.key === 'Escape') hide();
    if (!step || all().length === 0) return;
    event.preventDefault();
    show(Math.min(Math.max(at + step, 0), all().length - 1));
  });
}

function setUpChart(figure) {
  const data = dataOf(figure), drawing = $('.drawing', figure);
  const button = $('button.linear', figure), template = $('template', figure);
  let other = template ? [...template.content.children] : [];
  [...drawing.children, ...other].forEach((svg) => setUpDrawing(svg, data));
  if (!button) return;
  button.hidden = false;
  button.addEventListener('click', () => {
    const shown = [...drawing.children];
    drawing.replaceChildren(...other);
    other = shown;
    button.setAttribute('aria-pressed', String(button.getAttribute('aria-pressed') !== 'true'));
  });
}

function setUpHeatMap(figure) {
  const data = dataOf(figure), values = bytes(data.values);
  const columns = data.steps.length, rows = data.rows.length;
  $$('.drawing svg', figure).forEach((svg) => {
    const [left, top, right, bottom] = svg.dataset.plot.split(' ').map(Number);
    const here = $('.here', svg);
    const width = (right - left) / columns, height = (bottom - top) / rows;
    const hide = () => { here.setAttribute('x', -20); here.setAttribute('width', 1); hideTip(); };
    const onPointer = (event) => {
      const [x, y] = toDrawing(svg, event);
      const column = Math.floor((x - left) / width), row = Math.floor((y - top) / height);
      if (column < 0 || column >= columns || row < 0 || row >= rows) return hide();
      const share = values[row * columns + column] / 255;
      here.setAttribute('x', left + column * width);
      here.setAttribute('y', top + row * height);
      here.setAttribute('width', width);
      here.setAttribute('height', Math.max(height, 1));
      showTip(event.clientX, event.clientY, `${data.row} ${data.rows[row]}`,
        [`step ${number(data.steps[column])}`, `${share.toFixed(2)} of its ${data.scale}, ${number(data.row_scale[row])}`]);
    };
    svg.addEventListener('pointermove', onPointer);
    svg.addEventListener('pointerdown', onPointer);
    svg.addEventListener('pointerleave', hide);
  });
}

function setUpTheme() {
  const button = $('button.theme'), root = document.documentElement;
  const names = {'': 'as the system', light: 'light', dark: 'dark'};
  const set = (theme) => {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    button.textContent = `Colours: ${names[theme]}`;
  };
  const asked = /theme=(light|dark)/.exec(location.hash);
  set(asked ? asked[1] : '');
  button.hidden = false;
  button.addEventListener('click', () => {
    const order = ['', 'light', 'dark'];
    set(order[(order.indexOf(root.dataset.theme || '') + 1) % 3]);
  });
}

function setUpContents() {
  const links = new Map($$('nav li a').map((link) => [link.getAttribute('href').slice(1), link]));
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries)
      if (entry.isIntersecting) links.forEach((link, id) => link.classList.toggle('current', id === entry.target.id));
  }, {rootMargin: '-10% 0px -75% 0px'});
  $$('section').forEach((section) => observer.observe(section));
}

setUpTheme();
setUpContents();
$$('figure.chart').forEach(setUpChart);
$$('figure.heat-map').forEach(setUpHeatMap);
$$('figure.atlas').filter((figure) => dataOf(figure)).forEach(setUpAtlas);
document.documentElement.dataset.ready = 'yes';
