// The page is whole without this script, feature cards aside. It adds hover values, keyboard reading of
// charts, the linear axes, the choice of colours, and the searchable cards. All data is put in by
// textContent: a token is text, whatever it spells.
'use strict';
(() => {
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
  const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

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
        if (Number.isFinite(px) && Number.isFinite(py)) points.push({s, x: value, y: series.y[i], px, py});
      }));
      return points;
    };
    const here = $('.here', svg);
    function show(index) {
      at = index;
      const point = all()[index];
      here.setAttribute('cx', point.px);
      here.setAttribute('cy', point.py);
      showTip(...toScreen(svg, point.px, point.py), data.series[point.s].name,
        [`${data.y}: ${number(point.y)}`, `${data.x}: ${number(point.x)}`]);
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

  // Feature cards
  const kCardsPerPage = 24;

  function readCurves(block, steps) {
    if (!block) return null;
    const largest = new Float32Array(bytes(block.largest).buffer);
    const shares = new Uint16Array(bytes(block.shares).buffer);
    return {
      largest: (f) => largest[f],
      share: (f, k) => shares[f * steps.length + k] / 65535,
      has: (f) => f >= 0 && f < largest.length,
    };
  }

  function readPromoted(block) {
    const array = (Type, name) => new Type(bytes(block[name]).buffer);
    const features = array(Uint32Array, 'features'), counts = array(Uint32Array, 'counts');
    const slots = array(Uint8Array, 'slots');
    const scores = array(Int16Array, 'scores'), floors = array(Int16Array, 'floors');
    const value = (values) => (i) => values[i] === -32768 ? NaN : values[i] * block.unit;
    const range = new Map();  // of each feature's entries
    let begin = 0;
    features.forEach((feature, i) => {
      range.set(feature, [begin, begin + counts[i]]);
      begin += counts[i];
    });
    return {
      vocabulary: block.vocabulary, range, tokens: array(Uint32Array, 'tokens'),
      step: (i) => block.steps[slots[i]], score: value(scores), floor: value(floors),
    };
  }

  function curve(name, curves, f, steps, color) {
    const last = Math.log10(1 + steps[steps.length - 1]) || 1, first = Math.log10(1 + steps[0]);
    const x = (k) => steps.length < 2 ? 50 : (Math.log10(1 + steps[k]) - first) / (last - first || 1) * 100;
    const y = (k) => 40 - 36 * curves.share(f, k);
    const points = steps.map((_, k) => `${x(k).toFixed(2)},${y(k).toFixed(2)}`).join(' ');
    const value = (k) => curves.share(f, k) * curves.largest(f);
    const svg = makeSvg('svg', {viewBox: '0 0 100 42', preserveAspectRatio: 'none', class: color, role: 'img',
        'aria-label': `${name} over training: first ${number(value(0))}, last ${number(value(steps.length - 1))}`},
      makeSvg('line', {class: 'floor-line', x1: 0, x2: 100, y1: 41, y2: 41}),
      makeSvg('polyline', {class: 'line', points}));
    svg.addEventListener('pointermove', (event) => {
      const [at] = toDrawing(svg, event);
      let nearest = 0;
      steps.forEach((_, k) => { if (Math.abs(x(k) - at) < Math.abs(x(nearest) - at)) nearest = k; });
      showTip(event.clientX, event.clientY, `${name} ${number(value(nearest))}`, [`step ${number(steps[nearest])}`]);
    });
    svg.addEventListener('pointerleave', hideTip);
    return make('div', {}, make('p', {}, make('span', {}, name), make('span', {}, `up to ${number(curves.largest(f), 3)}`)), svg);
  }

  function promotedTokens(promoted, feature) {
    const list = make('div', {class: 'promoted'});
    if (!promoted.range.has(feature)) return list;
    const [begin, end] = promoted.range.get(feature);
    let step = -1, tokens = null;
    for (let i = begin; i < end; ++i) {
      const floor = promoted.floor(i), score = promoted.score(i);
      if (promoted.step(i) !== step) {
        step = promoted.step(i);
        tokens = make('div', {class: 'tokens'});
        const when = make('div', {class: 'when'}, `step ${number(step)}`);
        if (Number.isFinite(floor)) when.append(make('small', {}, `floor ${floor.toFixed(2)}`));
        list.append(when, tokens);
      }
      const below = Number.isFinite(floor) && score <= floor;
      tokens.append(make('span', {class: below ? 'token below' : 'token', title: below ? 'no higher than a random direction' : 'above a random direction'},
        make('bdi', {}, promoted.vocabulary[promoted.tokens[i]]), make('small', {}, Number.isFinite(score) ? score.toFixed(2) : '–')));
    }
    return list;
  }

  function setUpFeatures(figure) {
    const data = dataOf(figure), column = data.columns;
    const ids = column.feature, promoted = readPromoted(data.promoted);
    const norms = readCurves(data.norms, data.steps), rates = readCurves(data.rates, data.steps);
    const lower = promoted.vocabulary.map((token) => token.toLowerCase());
    const search = $('.search', figure), sort = $('.sort', figure), aliveOnly = $('.alive-only', figure);
    const cards = $('.cards', figure), more = $('.more', figure), count = $('.count', figure);
    let matches = [], shown = 0;

    // Orders that the table has no column for are not offered; births and deaths that never were come last.
    for (const option of [...sort.options]) if (!column[option.value.replace('-', '')]) option.remove();
    if (!column.alive) aliveOnly.parentElement.hidden = true;

    function featuresPromoting(text) {
      const wanted = lower.map((token) => token.includes(text)), found = new Set();
      if (!wanted.includes(true)) return found;
      for (const [feature, [begin, end]] of promoted.range)
        for (let i = begin; i < end && !found.has(feature); ++i)
          if (wanted[promoted.tokens[i]]) found.add(feature);
      return found;
    }

    function card(i) {
      const f = ids[i], value = (name) => column[name] ? column[name][i] : null;
      const step = (name) => value(name) === null ? '' : number(value(name));
      const life = [];
      if (step('born_step')) life.push(`born ${step('born_step')}`);
      if (step('peak_step')) life.push(`peak ${step('peak_step')}`);
      if (step('died_step')) life.push(`died ${step('died_step')}`);
      if (column.final_norm) life.push(`final norm ${number(value('final_norm'), 3)}`);
      if (column.final_rate) life.push(`final rate ${number(value('final_rate'), 3)}`);
      const title = make('h3', {}, make('span', {}, `Feature ${f}`));
      if (data.profiles[i]) title.append(make('span', {class: 'muted'}, data.profiles[i]));
      const element = make('article', {class: 'card', 'data-feature': f}, title,
        make('p', {class: 'life'}, life.join(' · ')));
      const curves = make('div', {class: 'curves'});
      if (norms && norms.has(f)) curves.append(curve('norm', norms, f, data.steps, 'c0'));
      if (rates && rates.has(f)) curves.append(curve('rate', rates, f, data.steps, 'c1'));
      if (curves.childElementCount > 0) element.append(curves);
      element.append(promotedTokens(promoted, f));
      return element;
    }

    function showMore() {
      const next = matches.slice(shown, shown + kCardsPerPage);
      cards.append(...next.map(card));
      shown += next.length;
      more.hidden = shown >= matches.length;
      count.textContent = `${number(matches.length)} of ${number(ids.length)} features`;
      figure.dataset.matches = matches.length;
    }

    function update() {
      const text = search.value.toLowerCase(), id = text.trim().replace(/^#/, '');
      const found = text === '' ? null : featuresPromoting(text);
      matches = [];
      ids.forEach((feature, i) => {
        if (aliveOnly.checked && column.alive && column.alive[i] !== 1) return;
        if (found === null || found.has(feature) || String(feature) === id) matches.push(i);
      });
      const descending = sort.value.startsWith('-'), by = column[sort.value.replace('-', '')] || ids;
      matches.sort((a, b) => {
        if (by[a] === null || by[b] === null) return (by[a] === null) - (by[b] === null) || a - b;
        return (descending ? by[b] - by[a] : by[a] - by[b]) || a - b;
      });
      cards.replaceChildren();
      shown = 0;
      showMore();
    }

    let waiting = 0;
    search.addEventListener('input', () => { clearTimeout(waiting); waiting = setTimeout(update, 60); });
    sort.addEventListener('change', update);
    aliveOnly.addEventListener('change', update);
    more.addEventListener('click', showMore);
    $('.controls', figure).hidden = false;
    update();
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
  $$('figure.features').forEach(setUpFeatures);
  document.documentElement.dataset.ready = 'yes';
})();
