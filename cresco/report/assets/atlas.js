// The feature atlas: a list of which only the rows in sight are elements, and a card of the feature that
// is open. Its numbers are decoded when the atlas comes near the window, or is searched.

// Packs: see html/pack.h.
async function unpack(script) {
  const packed = bytes(script.textContent);
  const size = Number(script.dataset.bytes);
  const raw = 'DecompressionStream' in window ?
    new Uint8Array(await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'))).arrayBuffer()) :
    inflate(packed, size);
  const types = {u8: Uint8Array, i16: Int16Array, u16: Uint16Array, u32: Uint32Array, f32: Float32Array};
  const layout = script.dataset.layout.split(' '), arrays = {};
  let begin = 0;
  for (let i = 0; i < layout.length; i += 3) {
    const [name, type] = layout.slice(i), count = Number(layout[i + 2]);
    const width = type === 'text' ? 1 : types[type].BYTES_PER_ELEMENT;
    const planes = raw.subarray(begin, begin + count * width);
    begin += count * width;
    if (type === 'text') {
      arrays[name] = new TextDecoder().decode(planes);
      continue;
    }
    const together = new Uint8Array(count * width);
    for (let b = 0; b < width; ++b)
      for (let n = 0, from = b * count, to = b; n < count; ++n, to += width) together[to] = planes[from + n];
    arrays[name] = new types[type](together.buffer);
  }
  return arrays;
}

// Where each row's entries begin, from how many it has.
function starts(counts) {
  const begin = new Uint32Array(counts.length + 1);
  for (let i = 0; i < counts.length; ++i) begin[i + 1] = begin[i] + counts[i];
  return begin;
}

function readCurves(pack, steps) {
  return pack && {
    largest: (row) => pack.largest[row],
    value: (row, k) => pack.largest[row] * pack.shares[row * steps.length + k] / 65535,
    share: (row, k) => pack.shares[row * steps.length + k] / 65535,
  };
}

function readLists(pack, tokenSteps) {
  if (!pack) return null;
  const firstList = starts(pack.lists), firstToken = starts(pack.lengths);
  const score = (list, i) => pack.shares[i] === -32768 ? NaN : pack.largest[list] * pack.shares[i] / 32767;
  return {
    tokens: pack.tokens, score, firstList, firstToken,
    of: (row) => {
      const lists = [];
      for (let l = firstList[row]; l < firstList[row + 1]; ++l) {
        const list = {step: tokenSteps[pack.steps[l]], floor: pack.floors[l], tokens: []};
        for (let i = firstToken[l]; i < firstToken[l + 1]; ++i)
          list.tokens.push({token: pack.tokens[i], score: score(l, i), below: i - firstToken[l] >= pack.beyond[l]});
        lists.push(list);
      }
      return lists;
    },
  };
}

async function readAtlas(figure) {
  const meta = dataOf(figure), scripts = $$(':scope > script.pack', figure), packs = {};
  await Promise.all(scripts.map(async (script) => { packs[script.dataset.name] = await unpack(script); }));
  scripts.forEach((script) => script.remove());  // decoded once
  const column = packs.columns, neighbours = packs.neighbours;
  const texts = packs.vocabulary ? packs.vocabulary.texts.split('\n') : [];
  if (texts.length) texts.pop();  // what follows the last line end
  const rowOf = new Map();
  column.feature.forEach((feature, row) => rowOf.set(feature, row));
  const firstNeighbour = neighbours && starts(neighbours.counts);
  return {
    ...meta, column, texts, rowOf, rows: column.feature.length,
    lower: texts.map((text) => text.toLowerCase()),
    norms: readCurves(packs.norms, meta.steps), rates: readCurves(packs.rates, meta.steps),
    promoted: readLists(packs.promoted, meta.token_steps), suppressed: readLists(packs.suppressed, meta.token_steps),
    profile: (row) => column.profile && column.profile[row] ? meta.profiles[column.profile[row] - 1] : '',
    value: (name, row) => column[name] ? column[name][row] : NaN,
    neighbours: (row) => {
      const found = [];
      if (neighbours)
        for (let i = firstNeighbour[row]; i < firstNeighbour[row + 1]; ++i)
          found.push({row: neighbours.rows[i], cosine: neighbours.cosines[i] / 32767});
      return found;
    },
  };
}

// What the controls ask for: the rows that fit, in the order that is asked for.
function findFeatures(atlas, wanted) {
  const match = new Float32Array(atlas.rows).fill(-1);  // the searched token's score, by size
  let found = null;
  if (wanted.text !== '') {
    found = new Uint8Array(atlas.rows);
    const whole = /^"(.+)"$/.exec(wanted.text), lower = wanted.text.toLowerCase();
    const is = whole ? atlas.texts.map((text) => text === whole[1]) : atlas.lower.map((text) => text.includes(lower));
    for (const side of wanted.side === 'both' ? ['promoted', 'suppressed'] : [wanted.side]) {
      const lists = atlas[side];
      if (!lists || !is.includes(true)) continue;
      for (let row = 0; row < atlas.rows; ++row)
        for (let l = lists.firstList[row]; l < lists.firstList[row + 1]; ++l)
          for (let i = lists.firstToken[l]; i < lists.firstToken[l + 1]; ++i)
            if (is[lists.tokens[i]]) {
              found[row] = 1;
              match[row] = Math.max(match[row], Math.abs(lists.score(l, i)));
            }
    }
    const id = /^\s*#?(\d+)\s*$/.exec(wanted.text);
    if (id && atlas.rowOf.has(Number(id[1]))) found[atlas.rowOf.get(Number(id[1]))] = 1;
  }
  const alive = wanted.aliveOnly && atlas.column.alive, profile = wanted.profile && atlas.column.profile;
  const rows = [];
  for (let row = 0; row < atlas.rows; ++row) {
    if (found && !found[row]) continue;
    if (alive && alive[row] !== 1) continue;
    if (profile && profile[row] !== wanted.profile) continue;
    if (!wanted.ranges.every(({name, from, to}) => atlas.column[name][row] >= from && atlas.column[name][row] <= to)) continue;
    rows.push(row);
  }
  const descending = wanted.sort.startsWith('-'), name = wanted.sort.replace('-', '');
  const by = name === 'match' ? match : atlas.column[name] || atlas.column.feature;
  return rows.sort((a, b) => {  // births and deaths that never were come last
    if (Number.isNaN(by[a]) || Number.isNaN(by[b])) return Number.isNaN(by[a]) - Number.isNaN(by[b]) || a - b;
    return (descending ? by[b] - by[a] : by[a] - by[b]) || a - b;
  });
}

function stepPlace(steps) {
  const f = (step) => Math.log10(1 + step), first = f(steps[0]), range = f(steps[steps.length - 1]) - first || 1;
  return (step) => steps.length < 2 ? 50 : (f(step) - first) / range * 100;
}

// A curve over log steps in a box of 100 by `height`, stretched by the page.
function curveLines(curves, row, steps, height, color) {
  const x = stepPlace(steps);
  const points = steps.map((step, k) => `${x(step).toFixed(2)},${(height - 2 - (height - 4) * curves.share(row, k)).toFixed(2)}`).join(' ');
  return makeSvg('svg', {viewBox: `0 0 100 ${height}`, preserveAspectRatio: 'none', class: color},
    makeSvg('line', {class: 'floor-line', x1: 0, x2: 100, y1: height - 1, y2: height - 1}),
    makeSvg('polyline', {class: 'line', points}));
}

function curveFigure(name, unit, curves, row, atlas, marks, color) {
  const steps = atlas.steps, x = stepPlace(steps), svg = curveLines(curves, row, steps, 60, color);
  for (const mark of marks)
    svg.prepend(makeSvg('line', {class: 'stop', x1: x(mark).toFixed(2), x2: x(mark).toFixed(2), y1: 2, y2: 59}));
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', `${name} over training: first ${number(curves.value(row, 0), 3)}, last ${
    number(curves.value(row, steps.length - 1), 3)}, largest ${number(curves.largest(row), 3)}`);
  svg.addEventListener('pointermove', (event) => {
    const [at] = toDrawing(svg, event);
    let nearest = 0;
    steps.forEach((step, k) => { if (Math.abs(x(step) - at) < Math.abs(x(steps[nearest]) - at)) nearest = k; });
    showTip(event.clientX, event.clientY, `${name} ${number(curves.value(row, nearest), 3)}`, [`step ${number(steps[nearest])}`]);
  });
  svg.addEventListener('pointerleave', hideTip);
  return make('div', {class: 'curve'},
    make('p', {}, make('strong', {}, name), make('span', {}, `${unit}, up to ${number(curves.largest(row), 3)}`)), svg,
    make('p', {}, make('span', {}, `step ${number(steps[0])}`), make('span', {}, `step ${number(steps[steps.length - 1])}`)));
}

const kRowHeight = 62;  // as .atlas .row in page.css

function setUpAtlas(figure) {
  const search = $('.search', figure), side = $('.side', figure), sort = $('.sort', figure), profile = $('.profile', figure);
  const aliveOnly = $('.alive-only', figure), ranges = $$('.range', figure), count = $('.count', figure);
  const panes = $('.panes', figure), list = $('.list', figure), card = $('.card', figure);
  const rowsBox = make('div', {class: 'rows', role: 'presentation'});
  const link = new RegExp(`^#${figure.dataset.link}-(\\d+)(?:&|$)`);
  const hash = (row) => `#${figure.dataset.link}-${atlas.column.feature[row]}`;
  let atlas = null, opening = null, matches = [], open = -1;  // open: a row of the table

  const tokenChip = ({token, score, below}) => make('span', {
    class: below ? 'token below' : 'token', title: below ? 'no further than a random direction' : 'further than a random direction',
  }, make('bdi', {}, atlas.texts[token]), make('small', {}, number(score, 3)));

  // Of the lists of one row, the one at the step where its norm peaks, or the last before it.
  function listAtPeak(row) {
    const lists = atlas.promoted ? atlas.promoted.of(row) : [], peak = atlas.value('peak_step', row);
    return lists.filter((one) => !(one.step > peak)).pop() || lists[lists.length - 1];
  }

  function lifeOf(row) {
    const life = [];
    if (atlas.column.alive && atlas.column.alive[row] !== 1) life.push('never alive');
    for (const [name, label] of [['born_step', 'born'], ['peak_step', 'peak'], ['died_step', 'died']])
      if (Number.isFinite(atlas.value(name, row))) life.push(`${label} ${number(atlas.value(name, row))}`);
    return life.join(' · ');
  }

  function rowElement(place) {
    const row = matches[place], best = listAtPeak(row), tokens = make('span', {class: 'tokens'});
    if (best) tokens.append(...best.tokens.slice(0, 6).map((one) => make('bdi', {class: one.below ? 'token below' : 'token'}, atlas.texts[one.token])));
    const element = make('div', {class: 'row', role: 'option', id: `${figure.id}-row-${row}`, 'aria-selected': String(row === open),
        'aria-setsize': matches.length, 'aria-posinset': place + 1, 'data-row': row, title: atlas.profile(row), style: `top:${place * kRowHeight}px`},
      make('span', {class: 'id'}, String(atlas.column.feature[row])));
    const spark = make('span', {class: 'spark', 'aria-hidden': 'true'});
    if (atlas.norms) spark.append(curveLines(atlas.norms, row, atlas.steps, 26, 'c0'));
    element.append(spark, make('span', {class: 'what'}, tokens, make('span', {class: 'life'}, lifeOf(row))));
    return element;
  }

  // Makes the rows in sight, and a few beyond.
  function drawRows() {
    const first = Math.max(0, Math.floor(list.scrollTop / kRowHeight) - 4);
    const last = Math.min(matches.length, Math.ceil((list.scrollTop + list.clientHeight) / kRowHeight) + 4);
    const have = new Map([...rowsBox.children].map((element) => [Number(element.dataset.row), element]));
    const wanted = [];
    for (let place = first; place < last; ++place) wanted.push(have.get(matches[place]) || rowElement(place));
    rowsBox.replaceChildren(...wanted);
  }

  const placeOf = (row) => matches.indexOf(row);

  function scrollToRow(row) {
    const place = placeOf(row);
    if (place < 0) return;
    const top = place * kRowHeight - list.scrollTop, bottom = top + kRowHeight, room = list.clientHeight;
    if (top < -2 * kRowHeight || bottom > room + 2 * kRowHeight) list.scrollTop += top - (room - kRowHeight) / 2;  // far: to the middle
    else if (top < 0) list.scrollTop += top;
    else if (bottom > room) list.scrollTop += bottom - room;
  }

  function facts(row) {
    const element = make('dl', {class: 'life-facts'});
    for (const {name, label, is_step, unit, meaning} of atlas.columns) {
      if (name === 'alive') continue;
      const value = atlas.value(name, row);
      const text = is_step ? (Number.isFinite(value) ? `step ${number(value)}` : 'never') :
        number(value, 3) + (Number.isFinite(value) ? unit : '');
      element.append(make('div', {}, make('dt', meaning ? {title: meaning} : {}, label), make('dd', {}, text)));
    }
    return element;
  }

  function tokenTable(row) {
    const sides = [['promoted', 'Promotes'], ['suppressed', 'Suppresses']].filter(([name]) => atlas[name]);
    const lists = Object.fromEntries(sides.map(([name]) => [name, atlas[name].of(row)]));
    const steps = [...new Set(Object.values(lists).flat().map((one) => one.step))].sort((a, b) => a - b);
    if (steps.length === 0) return null;
    const peak = atlas.value('peak_step', row);
    const head = make('tr', {}, make('th', {scope: 'col'}, 'step'), ...sides.map(([, label]) => make('th', {scope: 'col'}, label)));
    const body = steps.map((step) => make('tr', {},
      make('th', {scope: 'row'}, number(step), ...(step === peak ? [make('small', {}, 'norm peaks')] : [])),
      ...sides.map(([name, label]) => {
        const found = lists[name].find((one) => one.step === step), cell = make('td', {'data-side': label});
        if (!found) return cell;
        cell.append(make('div', {class: 'tokens'}, ...found.tokens.map(tokenChip)));
        if (Number.isFinite(found.floor)) cell.append(make('small', {}, `chance reaches ${number(found.floor, 3)}`));
        return cell;
      })));
    return make('table', {class: 'token-lists'}, make('thead', {}, head), make('tbody', {}, ...body));
  }

  function neighbourList(row) {
    const found = atlas.neighbours(row);
    if (found.length === 0) return null;
    return make('div', {class: 'neighbours'}, make('h5', {}, 'Nearest features'), make('ol', {}, ...found.map((one) => {
      const best = listAtPeak(one.row), tokens = best ? best.tokens.slice(0, 4) : [];
      return make('li', {}, make('a', {href: hash(one.row)}, `Feature ${atlas.column.feature[one.row]}`),
        make('span', {class: 'cosine'}, `cos ${one.cosine.toFixed(3)}`),
        make('span', {class: 'tokens'}, ...tokens.map(({token, below}) => make('bdi', {class: below ? 'token below' : 'token'}, atlas.texts[token]))));
    })));
  }

  function showCard(row) {
    const place = placeOf(row), title = make('h4', {}, make('a', {href: hash(row), title: 'a link to this feature'}, `Feature ${atlas.column.feature[row]}`));
    title.append(make('span', {class: 'muted'}, atlas.profile(row) || (atlas.column.alive && atlas.column.alive[row] !== 1 ? 'never alive' : '')));
    const go = (to, label, text) => {
      const button = make('button', {type: 'button', 'aria-label': label}, text);
      button.disabled = to < 0 || to >= matches.length;
      button.addEventListener('click', () => {  // the new card has a button of the same name
        chooseRow(matches[to]);
        const same = $(`.steps [aria-label="${label}"]`, card);
        (same.disabled ? card : same).focus();
      });
      return button;
    };
    title.append(make('span', {class: 'steps'}, go(place < 0 ? -1 : place - 1, 'previous feature', '←'), go(place < 0 ? -1 : place + 1, 'next feature', '→')));
    const marks = [...new Set(['promoted', 'suppressed'].flatMap((name) => atlas[name] ? atlas[name].of(row).map((one) => one.step) : []))];
    const curves = make('div', {class: 'curves'});
    if (atlas.norms) curves.append(curveFigure('Decoder norm', 'length', atlas.norms, row, atlas, marks, 'c0'));
    if (atlas.rates) curves.append(curveFigure('Firing rate', 'share of rows', atlas.rates, row, atlas, marks, 'c1'));
    card.replaceChildren(title, curves, facts(row),
      ...[tokenTable(row), neighbourList(row)].filter(Boolean));
    card.dataset.feature = atlas.column.feature[row];
  }

  function openRow(row) {
    open = row;
    showCard(row);
    scrollToRow(row);
    drawRows();
    markOpen();
  }

  function markOpen() {
    for (const element of rowsBox.children) element.setAttribute('aria-selected', String(Number(element.dataset.row) === open));
    if (placeOf(open) >= 0) list.setAttribute('aria-activedescendant', `${figure.id}-row-${open}`);
    else list.removeAttribute('aria-activedescendant');
  }

  // As openRow, when somebody chose this feature: the address names it.
  function chooseRow(row) {
    openRow(row);
    history.replaceState(null, '', hash(row));
  }

  // What a person types: "1000", "1e3", "1,000"; nothing is no bound.
  const bound = (input, none) => {
    const text = input.value.trim().replace(/,/g, ''), value = Number(text);
    const wrong = text !== '' && !Number.isFinite(value);
    input.setAttribute('aria-invalid', String(wrong));
    return text === '' || wrong ? none : value;
  };

  function update() {
    const wanted = {
      text: search.value, side: side ? side.value : 'promoted', sort: sort.value, profile: profile ? Number(profile.value) : 0,
      aliveOnly: aliveOnly ? aliveOnly.checked : false,
      ranges: ranges.map((range) => ({name: $('select', range).value, from: bound($('.from', range), -Infinity), to: bound($('.to', range), Infinity)}))
        .filter(({from, to}) => from !== -Infinity || to !== Infinity),
    };
    matches = findFeatures(atlas, wanted);
    count.textContent = `${number(matches.length)} of ${number(atlas.rows)} features`;
    figure.dataset.matches = matches.length;
    rowsBox.style.height = `${matches.length * kRowHeight}px`;
    rowsBox.replaceChildren();
    list.scrollTop = 0;
    if (matches.length > 0) {
      if (placeOf(open) < 0) open = matches[0];
      showCard(open);
    } else {
      card.replaceChildren(make('p', {class: 'note'}, 'No feature fits.'));
    }
    drawRows();
    markOpen();
  }

  // Decodes once; later calls wait for the same.
  function prepare() {
    opening ??= readAtlas(figure).then((read) => {
      atlas = read;
      list.append(rowsBox);
      panes.hidden = false;
      update();
      figure.dataset.ready = 'yes';
    });
    return opening;
  }

  async function followLink() {
    const asked = link.exec(location.hash);
    if (!asked) return;
    await prepare();
    const row = atlas.rowOf.get(Number(asked[1]));
    if (row === undefined) return;
    if (placeOf(row) < 0) {  // the filters hide it
      search.value = '';
      for (const range of ranges) $('.from', range).value = $('.to', range).value = '';
      if (profile) profile.value = '';
      if (aliveOnly) aliveOnly.checked = false;
      update();
    }
    const wasHere = card.contains(document.activeElement);
    openRow(row);
    if (wasHere) card.focus({preventScroll: true});  // the link that was followed is gone
    const box = card.getBoundingClientRect();
    if (box.top < 0 || box.top > innerHeight / 2) card.scrollIntoView({block: 'start'});
  }

  const refresh = () => { if (atlas) update(); else prepare(); };
  let waiting = 0;
  search.addEventListener('input', () => { clearTimeout(waiting); waiting = setTimeout(refresh, 60); });
  search.addEventListener('focus', prepare);
  search.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && search.value !== '') {
      event.preventDefault();
      search.value = '';
      refresh();
    }
    if ((event.key === 'ArrowDown' || event.key === 'Enter') && atlas && matches.length > 0) {
      event.preventDefault();
      list.focus();
    }
  });
  for (const control of $$('select, input:not(.search)', figure)) control.addEventListener('input', refresh);
  list.addEventListener('scroll', () => requestAnimationFrame(() => atlas && drawRows()), {passive: true});
  list.addEventListener('click', (event) => {
    const element = event.target.closest('.row');
    if (!element) return;
    chooseRow(Number(element.dataset.row));
    if (card.getBoundingClientRect().top > innerHeight * 0.7) card.scrollIntoView({block: 'start'});  // one column
  });
  list.addEventListener('keydown', (event) => {
    const page = Math.max(1, Math.floor(list.clientHeight / kRowHeight) - 1), at = placeOf(open);
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: matches.length - 1}[event.key];
    if (event.key === 'Enter') card.focus();
    if (event.key === 'Escape') search.focus();
    if (to === undefined || matches.length === 0) return;
    event.preventDefault();
    chooseRow(matches[Math.min(Math.max(to, 0), matches.length - 1)]);
  });
  card.addEventListener('keydown', (event) => { if (event.key === 'Escape') list.focus(); });
  addEventListener('hashchange', followLink);
  addEventListener('resize', () => { if (atlas) drawRows(); });
  addEventListener('beforeprint', prepare);
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    prepare();
  }, {rootMargin: '800px'}).observe(figure);
  $('.controls', figure).hidden = false;
  followLink();
}
