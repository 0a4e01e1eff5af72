"use strict";

// Every text from the records enters the page as text content and never as markup. Every number is
// shown as the report wrote it; this script chooses, sorts and draws.
const $ = (id) => document.getElementById(id);
const read = (id) => JSON.parse($(id).textContent);
const lazy = (id) => {
  let kept;
  return () => (kept ??= read(id));
};
const data = read("data");
const growth = read("growth");
const rooflines = read("rooflines");
const [pairs, samples, pictures] = ["pairs", "samples", "pictures"].map(lazy);
const columns = Object.fromEntries(data.columns.map((column) => [column.name, column]));
const RUNS = data.names.map((_, run) => run);
const LATENCY = columns.latency_s;
const NOTHING = "–";

const ROWS = 100;
const BARS = 40;
const MOST_CHOSEN = 6;
const MOST_CURVES = 8;
// After so many columns of numbers paper is full.
const ON_PAPER = 7;

const initial = () => {
  const numbers = numericNames();
  const first = (name) => (numbers.includes(name) ? name : numbers[0] ?? "latency_s");
  return {
    filters: {}, text: "", sort: "", descending: false, chosen: [], all: false, open: "",
    x: first("latency_s"), y: first("wer"), cost: first("latency_s"), logarithmic: true,
    size: growth[0]?.key ?? "", against: "",
  };
};
let state = initial();
let [rows, bars] = [ROWS, BARS];

// Elements

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function table(heads, lines, kinds = []) {
  const row = (cells, tag) => make("tr", {}, ...cells.map((cell, i) =>
    make(tag, { className: kinds[i] ?? "" }, cell)));
  return make("div", { className: "wide" }, make("table", {},
    make("thead", {}, row(heads, "th")),
    make("tbody", {}, ...lines.map((line) => row(line, "td")))));
}

function coloured(element, colour) {
  element.style.background = colour;
  return element;
}

function link(text, run) {
  return make("button", { type: "button", className: "link", onclick: () => show({ open: data.names[run] }) }, text);
}

// Runs

const cell = (run, name) => columns[name].cells[run];
const number = (run, name) => columns[name].values?.[run] ?? null;
const withUnit = (run, name) => `${cell(run, name)} ${columns[name].unit}`.trim();
const nameOf = (run) => data.names[run] + data.marks[run];
const titleOf = (run) => `${nameOf(run)} ${cell(run, "model")}`;
const differing = (runs, names) =>
  names.filter((name) => new Set(runs.map((run) => cell(run, name))).size > 1);

function settingOf(run, names = data.keys) {
  return names.filter((name) => cell(run, name) !== NOTHING)
    .map((name) => (columns[name].kind === "number" ? `${columns[name].head} ${cell(run, name)}` : cell(run, name)))
    .join(" · ");
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null) return 1;
  if (b === null) return -1;
  const order = typeof a === "string" ? a.localeCompare(b) : a - b;
  return state.descending ? -order : order;
}

function sortedBy(run, column) {
  const found = column.values ? column.values[run] : column.cells[run];
  return found === NOTHING ? null : found;
}

function visible() {
  const wanted = Object.entries(state.filters);
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  const texts = (run) => `${data.names[run]} ${data.search[run]}`.toLowerCase();
  const found = RUNS.filter((run) => wanted.every(([name, text]) => cell(run, name) === text))
    .filter((run) => words.every((word) => texts(run).includes(word)));
  const column = columns[state.sort];
  if (!column) return found;
  return found.sort((a, b) => compare(sortedBy(a, column), sortedBy(b, column)) || a - b);
}

// The address of the page holds what is shown: a copy of it shows the same.

const NAMES = { text: "_find", size: "_size", against: "_against", cost: "_cost", x: "_x", y: "_y", open: "_open" };
const OWN = [...Object.values(NAMES), "_sort", "_runs", "_columns", "_scale"];

function write() {
  const usual = initial();
  const found = new URLSearchParams();
  for (const [name, text] of Object.entries(state.filters)) found.set(name, text);
  for (const [key, name] of Object.entries(NAMES)) if (state[key] !== usual[key]) found.set(name, state[key]);
  if (state.sort) found.set("_sort", (state.descending ? "-" : "") + state.sort);
  if (state.chosen.length) found.set("_runs", state.chosen.map((run) => data.names[run]).join(","));
  if (state.all) found.set("_columns", "all");
  if (!state.logarithmic) found.set("_scale", "linear");
  return found.toString();
}

function parse(text) {
  const wanted = new URLSearchParams(text);
  const found = initial();
  const unknown = [];
  const take = (name, among, key) => {
    const value = wanted.get(name);
    if (value === null) return;
    if (among.includes(value)) found[key] = value;
    else unknown.push(`${name}=${value}`);
  };
  const numbers = numericNames();
  take("_size", growth.map(({ key }) => key), "size");
  take("_against", axesOf(found.size), "against");
  take("_cost", numbers, "cost");
  take("_x", numbers, "x");
  take("_y", numbers, "y");
  take("_open", [...data.names, "difference"], "open");
  found.text = wanted.get("_find") ?? "";
  const is = (name, value) => {
    if (wanted.has(name) && wanted.get(name) !== value) unknown.push(`${name}=${wanted.get(name)}`);
    return wanted.get(name) === value;
  };
  found.all = is("_columns", "all");
  found.logarithmic = !is("_scale", "linear");
  const sort = wanted.get("_sort") ?? "";
  found.descending = sort.startsWith("-");
  if (Object.hasOwn(columns, sort.replace(/^-/, ""))) found.sort = sort.replace(/^-/, "");
  else if (sort) unknown.push(`_sort=${sort}`);
  for (const name of (wanted.get("_runs") ?? "").split(",").filter(Boolean)) {
    const run = data.names.indexOf(name);
    if (run < 0) unknown.push(name);
    else if (!found.chosen.includes(run)) found.chosen = [...found.chosen, run].slice(-MOST_CHOSEN);
  }
  for (const [name, value] of wanted) {
    if (OWN.includes(name)) continue;
    if (data.filters.includes(name) && columns[name].cells.includes(value)) found.filters[name] = value;
    else unknown.push(`${name}=${value}`);
  }
  if (found.open === "difference" && found.chosen.length !== 2) {
    found.open = "";
    unknown.push("_open=difference without two _runs");
  }
  return [found, unknown];
}

const address = () => location.hash.replace(/^#/, "");

function show(changes) {
  const opened = state.open;
  Object.assign(state, changes);
  const text = write();
  if (text !== address()) {
    // A page inside another one may not change its history; then it is shown without an address.
    try {
      history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
    } catch { /* shown all the same */ }
  }
  refresh();
  if (state.open !== opened) openPanel();
}

function follow() {
  const [found, unknown] = parse(address());
  state = found;
  [rows, bars] = [ROWS, BARS];
  $("note").hidden = !unknown.length;
  $("note").textContent = unknown.length
    ? `The address asks for what this page does not have, and is followed without it: ${unknown.join(", ")}` : "";
  refresh();
  openPanel();
}

// The latency of each run as a bar, with a label at any number of them

function niceStep(most, steps) {
  const rough = most / steps;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5].find((nice) => nice * power >= rough) ?? 10);
}

function drawBars(runs) {
  const timed = runs.filter((run) => number(run, "latency_s") !== null);
  const shown = timed.slice(0, bars);
  $("bars-note").textContent = shown.length < timed.length ? `first ${shown.length} of ${timed.length}` : "";
  $("more-bars").hidden = shown.length === timed.length;
  const longest = Math.max(...shown.map((run) => Math.max(number(run, "latency_s"), LATENCY.high[run] ?? 0)));
  const names = differing(timed, data.keys);
  const phases = data.phases.filter(({ sizes }) => shown.some((run) => sizes[run] > 0));
  $("bars-legend").replaceChildren(...phases.map(legendItem));
  const labels = shown.map((run) => names.map((name) => cell(run, name)).join(" · "));
  const isOwn = (label) => label && labels.indexOf(label) === labels.lastIndexOf(label);
  $("bars").replaceChildren(...(shown.length ? [axisRow(longest, names)] : []),
    ...shown.map((run, i) => barRow(run, isOwn(labels[i]) ? labels[i] + data.marks[run] : `${labels[i]} ${nameOf(run)}`, longest)));
  if (!shown.length) $("bars").replaceChildren("no run with a latency is shown");
}

const legendItem = ({ name, colour }) =>
  make("li", {}, coloured(make("span", { className: "swatch" }), colour), name);

function axisRow(longest, names) {
  const axis = make("div", { className: "axis", ariaHidden: true });
  const step = niceStep(longest, 5);
  for (let tick = 0; tick <= longest; tick += step) {
    const mark = make("span", {}, String(Number(tick.toPrecision(3))));
    mark.style.left = `${(100 * tick) / longest}%`;
    axis.append(mark);
  }
  const label = names.map((name) => columns[name].head).join(" · ") || "run";
  return make("div", { className: "row" }, make("div", { className: "label soft corner" }, label),
    axis, make("div", { className: "value soft" }, LATENCY.head));
}

function barRow(run, label, longest) {
  return make("div", { className: "row" },
    make("div", { className: "label" }, link(label.trim(), run)),
    trackOf(run, longest), make("div", { className: "value" }, cell(run, "latency_s")));
}

function partsOf(run) {
  return data.phases.map(({ name, colour, sizes }) => ({ name, colour, size: sizes[run] }))
    .filter(({ size }) => size !== null && size > 0);
}

function trackOf(run, longest) {
  const share = (size) => `${(100 * size) / longest}%`;
  const latency = number(run, "latency_s");
  const stack = make("div", { className: "stack" });
  for (const part of partsOf(run)) {
    const bar = coloured(make("div", { title: `${part.name} ${withUnit(run, `${part.name}_s`)}` }), part.colour);
    bar.style.width = share(part.size);
    stack.append(bar);
  }
  const left = latency - partsOf(run).reduce((sum, { size }) => sum + size, 0);
  // Phases that an engine cannot see; medians of phases need not add up to that of the whole.
  if (data.phases.some(({ sizes }) => sizes[run] === null) && left > 0) {
    const rest = make("div", { className: "rest", title: "not divided into phases" });
    rest.style.width = share(left);
    stack.append(rest);
  }
  const track = make("div", { className: "track" }, stack);
  if (LATENCY.low[run] !== null) {
    const whisker = make("div", { className: "whisker", title: withUnit(run, "latency_s") });
    whisker.style.left = share(LATENCY.low[run]);
    whisker.style.width = share(LATENCY.high[run] - LATENCY.low[run]);
    track.append(whisker);
  }
  return track;
}

// Charts

let isPrinting = false;
const ink = (name) => {
  const style = getComputedStyle(document.documentElement);
  return style.getPropertyValue(isPrinting ? `--print-${name}` : `--${name}`).trim();
};
const charts = {};

// Lines along the intervals of both axes. Points of different curves at one place stand side by
// side, so that their intervals do not cover each other.
const whiskers = {
  id: "whiskers",
  afterUpdate(chart) {
    if (!chart.options.sideBySide) return;
    const shown = chart.data.datasets.map((_, i) => i).filter((i) => chart.data.datasets[i].isCurve);
    shown.forEach((dataset, place) => {
      const shift = 5 * (place - (shown.length - 1) / 2);
      chart.getDatasetMeta(dataset).data.forEach((element) => { element.x += shift; });
    });
  },
  beforeDatasetsDraw(chart) {
    const { ctx, scales: { x, y } } = chart;
    chart.data.datasets.forEach((dataset, i) => {
      if (!chart.isDatasetVisible(i)) return;
      ctx.save();
      ctx.strokeStyle = dataset.borderColor;
      ctx.lineWidth = 1.2;
      chart.getDatasetMeta(i).data.forEach((element, place) => {
        const raw = dataset.data[place];
        const lines = [];
        if (raw.low != null) lines.push([element.x, y.getPixelForValue(raw.low), element.x, y.getPixelForValue(raw.high)]);
        if (raw.left != null) lines.push([x.getPixelForValue(raw.left), element.y, x.getPixelForValue(raw.right), element.y]);
        for (const [x0, y0, x1, y1] of lines) {
          ctx.beginPath();
          ctx.moveTo(x0, y0);
          ctx.lineTo(x1, y1);
          ctx.stroke();
        }
      });
      ctx.restore();
    });
  },
};

function draw(id, datasets, options) {
  charts[id]?.destroy();
  charts[id] = new Chart($(id), {
    type: "scatter",
    data: { datasets },
    plugins: [whiskers],
    options: {
      animation: false, maintainAspectRatio: false, responsive: true,
      onClick: (_, hit, chart) => {
        const raw = hit.length && chart.data.datasets[hit[0].datasetIndex].data[hit[0].index];
        if (raw && raw.run !== undefined) show({ open: data.names[raw.run] });
      },
      ...options,
      plugins: {
        legend: { position: "bottom", maxHeight: 120, labels: { color: ink("ink"), usePointStyle: true, boxHeight: 7, boxWidth: 7, filter: ({ text }) => text !== "" } },
        tooltip: { filter: ({ raw }) => raw.about !== undefined, callbacks: { label: ({ raw }) => raw.about } },
        ...options.plugins,
      },
    },
  });
}

function axis(text, more = {}) {
  const { ticks = {}, ...others } = more;
  return {
    title: { display: true, text, color: ink("ink") },
    ticks: { color: ink("soft"), maxTicksLimit: 8, maxRotation: 0, ...ticks },
    grid: { color: ink("line") },
    ...others,
  };
}

// On a logarithmic axis over several decades only the powers of ten have a label.
const powers = (tick, _, ticks) => {
  const decades = Math.log10(ticks.at(-1).value / ticks[0].value);
  const mantissa = Number((tick / 10 ** Math.floor(Math.log10(tick) + 1e-9)).toPrecision(3));
  const shown = decades > 2.5 ? [1] : decades > 1 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  return shown.includes(mantissa) ? String(Number(tick.toPrecision(3))) : "";
};

const styleOf = (place) => {
  const colour = data.colours[place % data.colours.length];
  const turn = Math.floor(place / data.colours.length);
  return { borderColor: colour, backgroundColor: colour, pointStyle: data.shapes[(place + turn) % data.shapes.length] };
};

function numericNames() {
  return data.columns.filter(({ kind, values }) => kind === "number" && values && values.some((found) => found !== null))
    .map(({ name }) => name);
}

const axesOf = (size) => growth.find(({ key }) => key === size)?.axes ?? [];

function pointOf(run, x, y) {
  const [across, up] = [columns[x], columns[y]];
  return {
    run, x: number(run, x), y: number(run, y),
    low: up.low?.[run] ?? null, high: up.high?.[run] ?? null,
    left: across.low?.[run] ?? null, right: across.high?.[run] ?? null,
    about: [titleOf(run), settingOf(run), `${across.words} ${withUnit(run, x)}`, `${up.words} ${withUnit(run, y)}`],
  };
}

const highest = (points) => Math.max(...points.map(({ y, high }) => high ?? y));
const isPlaced = ({ x, y }) => x !== null && y !== null;

function drawGrowth(runs) {
  const chosen = growth.find(({ key }) => key === state.size);
  $("growth-figure").hidden = !chosen;
  if (!chosen) return;
  const axes = chosen.axes;
  const across = axes.includes(state.against) ? state.against : axes[0];
  fill($("size"), growth.map(({ key, title }) => [key, title]), state.size);
  fill($("against"), axes.map((name) => [name, columns[name].head]), across);
  fill($("cost"), numericNames().map((name) => [name, columns[name].head]), state.cost);
  const inside = new Set(runs);
  const curves = chosen.curves
    .map((curve) => ({ ...curve, points: curve.runs.filter((run) => inside.has(run))
      .map((run) => pointOf(run, across, state.cost)).filter(isPlaced) }))
    .filter(({ points }) => points.length > 1);
  const shown = curves.slice(0, MOST_CURVES);
  const sizes = [...new Set(shown.flatMap(({ points }) => points.map(({ x }) => x)))].sort((a, b) => a - b);
  const datasets = shown.flatMap((curve, place) => {
    const style = styleOf(place);
    const law = state.cost === "latency_s" && curve.law?.axis === across ? curve.law.points : null;
    return [
      { ...style, label: curve.name, data: curve.points, isCurve: true, showLine: !law, borderWidth: 1.5, pointRadius: 4, pointHoverRadius: 7 },
      ...(law ? [{ ...style, label: "", data: law.map(([x, y]) => ({ x, y })), showLine: true, borderDash: [6, 4], borderWidth: 1.5, pointRadius: 0, pointHitRadius: 0 }] : []),
    ];
  });
  // Where values are few, the ticks are these values.
  const few = sizes.length <= 8;
  draw("growth-chart", datasets, {
    sideBySide: true,
    scales: {
      x: axis(columns[across].head, {
        min: 0, ...(few && { afterBuildTicks: (scale) => { scale.ticks = sizes.map((value) => ({ value })); } }),
        ticks: { autoSkip: true, callback: (tick) => String(Number(tick.toPrecision(4))) },
      }),
      y: axis(columns[state.cost].head, { beginAtZero: true, suggestedMax: highest(shown.flatMap(({ points }) => points)) }),
    },
  });
  const left = curves.length - shown.length;
  const said = state.cost === "latency_s" ? shown.filter((curve) => curve.said) : [];
  $("laws-summary").textContent = `What the curves show (${said.length})`;
  $("laws-details").hidden = !said.length;
  $("laws").replaceChildren(...said.map((curve) => make("li", {}, `${curve.name}: ${curve.said}`)));
  $("growth-note").textContent = shown.length
    ? (left ? `${shown.length} of ${curves.length} curves; filters choose among them` : "") : "no run is shown at two sizes";
}

function drawPlane(runs) {
  fill($("x-column"), numericNames().map((name) => [name, columns[name].head]), state.x);
  fill($("y-column"), numericNames().map((name) => [name, columns[name].head]), state.y);
  $("x-log").checked = state.logarithmic;
  const models = [...new Set(RUNS.map((run) => cell(run, "model")))].sort();
  const points = runs.map((run) => pointOf(run, state.x, state.y)).filter(isPlaced);
  const logarithmic = state.logarithmic && points.every(({ x }) => x > 0);
  const many = points.length > 60;
  $("plane-figure").hidden = points.length < 2;
  const datasets = models.map((model, place) => ({
    ...styleOf(place), label: model, pointRadius: 4, pointHoverRadius: 7,
    data: points.filter(({ run }) => cell(run, "model") === model)
      .map((point) => (many ? { ...point, low: null, left: null } : point)),
  }));
  draw("plane", datasets.filter((set) => set.data.length), {
    scales: {
      x: axis(columns[state.x].head, logarithmic ? { type: "logarithmic", ticks: { callback: powers } } : {}),
      y: axis(columns[state.y].head, { beginAtZero: true, suggestedMax: many ? undefined : highest(points) }),
    },
  });
}

function drawRooflines(runs) {
  const known = (run) => rooflines.runs[run] !== null;
  const chosen = state.chosen.filter(known);
  const shown = chosen.length ? chosen : runs.filter(known).slice(0, 1);
  $("roofline-figure").hidden = !shown.length;
  if (!shown.length) return;
  $("roofline-note").textContent = chosen.length ? "" : "of the first run; choose others in the table";
  const found = shown.map((run) => rooflines.runs[run]);
  const across = found.flatMap(({ places, peak, bandwidth }) => [peak / bandwidth, ...places.map(({ x }) => x)]);
  const [left, right] = [Math.min(...across) / 4, Math.max(...across) * 4];
  const datasets = shown.flatMap((run, place) => {
    const { peak, bandwidth, heads, places } = rooflines.runs[run];
    const style = styleOf(place);
    const roof = [[left, left * bandwidth], [peak / bandwidth, peak], [right, peak]].map(([x, y]) => ({ x, y }));
    return [
      { ...style, borderColor: shown.length > 1 ? style.borderColor : ink("ink"), label: "", data: roof, showLine: true, pointRadius: 0, pointHitRadius: 0, borderWidth: 1.5 },
      {
        label: `${nameOf(run)} ${settingOf(run, shown.length > 1 ? differing(shown, data.keys) : ["model"])}`,
        pointStyle: style.pointStyle, borderColor: places.map(({ colour }) => colour), backgroundColor: places.map(({ colour }) => colour),
        pointRadius: 7, pointHoverRadius: 9,
        data: places.map((one) => ({ run, x: one.x, y: one.y, about: [titleOf(run), ...heads.map((head, i) => `${head}: ${one.cells[i]}`)] })),
      },
    ];
  });
  draw("roofline-chart", datasets, {
    scales: {
      x: axis("FLOP per byte moved", { type: "logarithmic", ticks: { callback: powers } }),
      y: axis(`achieved rate (${rooflines.unit})`, { type: "logarithmic", ticks: { callback: powers } }),
    },
  });
  const phases = [...new Map(found.flatMap(({ places }) => places).map((one) => [one.name, one])).values()];
  $("roofline-table").replaceChildren(
    make("ul", { className: "legend" }, ...phases.map(legendItem)),
    ...shown.flatMap((run) => [make("h3", {}, titleOf(run)), placesOf(run)]));
}

function placesOf(run) {
  const { heads, places } = rooflines.runs[run];
  return table(heads, places.map(({ cells }) => cells), heads.map((_, i) => (i > 1 ? "number" : "")));
}

// The table

function layOut(runs) {
  const names = (state.all ? data.columns.map(({ name }) => name) : [...data.keys, "status", ...data.main, "error"])
    .filter((name) => runs.some((run) => cell(run, name) !== NOTHING));
  const isSame = (name) => name !== "latency_s" && (runs.length > 1 || columns[name].is_setting || columns[name].kind !== "number")
    && new Set(runs.map((run) => cell(run, name))).size === 1;
  return [names.filter((name) => !isSame(name)), names.filter(isSame)];
}

function drawTable(runs) {
  const [names, same] = layOut(runs);
  const known = same.map((name) => `${columns[name].head}: ${cell(runs[0], name)}`);
  $("same").textContent = known.length ? `The same in ${runs.length > 1 ? `all ${runs.length} runs` : "the one run"}: ${known.join(" · ")}` : "";
  const costs = names.filter((name) => !columns[name].is_setting && columns[name].kind === "number");
  const classes = names.map((name) => columns[name].kind + (costs.indexOf(name) >= ON_PAPER ? " late" : ""));
  const head = names.map((name, i) => {
    const sorted = name === state.sort;
    const button = make("button", { type: "button", title: `${columns[name].words} (${name})`, onclick: () => sortBy(name) },
      columns[name].head + (sorted ? (state.descending ? " ▾" : " ▴") : ""));
    button.dataset.sort = name;
    return make("th", { className: classes[i], scope: "col", ariaSort: sorted ? (state.descending ? "descending" : "ascending") : "none" },
      // Browsers do not repeat buttons where a head is repeated on paper.
      button, make("span", { className: "on-paper", ariaHidden: true }, columns[name].head));
  });
  $("runs").tHead.replaceChildren(make("tr", {}, make("th", { scope: "col" }, "run"), ...head));
  $("runs").tBodies[0].replaceChildren(...runs.slice(0, rows).map((run) => tableRow(run, names, classes)));
  $("more").hidden = runs.length <= rows;
  $("more").textContent = `more rows (${runs.length - rows})`;
}

function tableRow(run, names, classes) {
  const box = make("input", {
    type: "checkbox", checked: state.chosen.includes(run), ariaLabel: `choose ${data.names[run]}`,
    onchange: (event) => choose(run, event.target.checked),
  });
  const pooled = data.rounds[run] ? make("small", {}, `${data.rounds[run]} rounds`) : null;
  const name = make("span", {}, link(nameOf(run), run), pooled === null ? null : " ", pooled);
  return make("tr", {}, make("td", {}, make("label", {}, box, name)),
    ...names.map((column, i) => make("td", { className: classes[i], title: columns[column].kind === "text" ? cell(run, column) : "" }, cell(run, column))));
}

function sortBy(name) {
  show({ descending: state.sort === name && !state.descending, sort: name });
}

function choose(run, wanted) {
  const others = state.chosen.filter((other) => other !== run);
  show({ chosen: wanted ? [...others, run].slice(-MOST_CHOSEN) : others });
}

function drawChosen() {
  $("difference").disabled = state.chosen.length !== 2;
  const items = state.chosen.map((run) => make("button", {
    type: "button", title: "do not choose", onclick: () => choose(run, false),
  }, `${nameOf(run)} ✕`));
  $("chosen").replaceChildren(...items.flatMap((item) => [item, " "]));
}

// One run, and two

function openPanel() {
  if (state.open === "") {
    if ($("panel").open) $("panel").close();
    return;
  }
  const run = data.names.indexOf(state.open);
  const children = state.open === "difference" ? differenceOf(...state.chosen) : contentOf(run);
  $("content").replaceChildren(...children.filter((child) => child !== null));
  if (!$("panel").open) $("panel").showModal();
  $("panel").scrollTop = 0;
}

function contentOf(run) {
  const details = read(`run-${run}`);
  const json = (title, content) => [make("h3", {}, title), make("pre", {}, JSON.stringify(content, null, 1))];
  const failure = details.error === null ? null : make("p", {}, `${cell(run, "status")}: ${details.error}`);
  const pooled = data.rounds[run] ? make("p", {}, `Medians of ${data.rounds[run]} rounds. Answers and readings are of the newest one.`) : null;
  const roofline = rooflines.runs[run] === null ? [] : [make("h3", {}, "Achieved against attainable"), placesOf(run)];
  return [
    make("h2", {}, titleOf(run)), make("p", {}, settingOf(run)), failure, pooled,
    ...phasesOf(run, number(run, "latency_s")), ...roofline, ...answersOf(details),
    make("h3", {}, "Values"), valuesOf(run, details),
    ...json("Configuration", details.config), ...json("Machine", details.machine), ...json("Versions", details.versions),
  ];
}

function phasesOf(run, longest) {
  if (number(run, "latency_s") === null) return [];
  const total = number(run, "latency_s");
  const legend = partsOf(run).map((part) => make("li", {},
    coloured(make("span", { className: "swatch" }), part.colour),
    `${part.name} ${withUnit(run, `${part.name}_s`)} (${((100 * part.size) / total).toFixed(0)}%)`));
  return [make("h3", {}, `${nameOf(run)}: one batch takes ${withUnit(run, "latency_s")}`),
    trackOf(run, longest), make("ul", { className: "legend" }, ...legend)];
}

function answersOf(details) {
  if (!details.answers.length) return [];
  const lines = details.answers.map(([index, answer, wer]) => {
    const sample = samples()[index];
    const source = sample.picture === null ? null : pictures()[sample.picture];
    const picture = source === null ? "" : make("img", { src: source, alt: sample.id, loading: "lazy" });
    return [picture, sample.question, sample.references.join(" / "), answer, wer ?? NOTHING];
  });
  const left = details.num_answers - details.answers.length;
  return [make("h3", {}, "Answers"),
    table(["picture", "question", "references", "answer", columns.wer.head], lines, ["", "", "", "", "number"]),
    left ? make("p", {}, `${left} more are in answers.jsonl.`) : null];
}

function valuesOf(run, details) {
  const lines = data.columns.map(({ name, head }) => {
    const [status, source] = details.provenance[name] ?? ["", ""];
    return [head, name, cell(run, name), [status, source].filter(Boolean).join(": ")];
  }).filter(([, , text, source]) => text !== NOTHING || source);
  return table(["value", "column", "", "status and source where not measured"], lines, ["", "", "number", ""]);
}

function differenceOf(one, other) {
  const key = [`${one} ${other}`, `${other} ${one}`].find((found) => pairs().found[found]);
  const [a, b] = key ? key.split(" ").map(Number) : [one, other];
  const longest = Math.max(...[a, b].map((run) => Math.max(number(run, "latency_s") ?? 0, LATENCY.high[run] ?? 0)));
  const { command, names, results } = pairs();
  return [
    make("h2", {}, `A: ${titleOf(a)} and B: ${titleOf(b)}`),
    ...(key ? saidOf(pairs().found[key]) : unsaidOf(a, b)),
    ...phasesOf(a, longest), ...phasesOf(b, longest),
    make("h3", {}, "The same in a terminal"),
    make("pre", {}, make("code", {}, `${command} ${names[a]} ${names[b]} ${results}`)),
  ];
}

function saidOf({ sides, said, rows: lines }) {
  const { heads, titles } = pairs();
  const named = lines.map(([name, ...cells]) => [make("span", { title: name }, titles[name] ?? name), ...cells]);
  return [...sides.map((side) => make("p", {}, side)), make("ul", {}, ...said.map((sentence) => make("li", {}, sentence))),
    table(heads, named, ["", "number", "number", "number", "number", ""])];
}

function unsaidOf(a, b) {
  const failed = [a, b].filter((run) => cell(run, "status") !== "completed");
  const why = failed.length
    ? `${failed.map(nameOf).join(" and ")}: ${failed.map((run) => cell(run, "status")).join(", ")}. Only completed runs are compared.`
    : "This page does not hold the comparison of these two: of many runs it holds those with the baseline and those that differ in one key. The command below compares any two.";
  const lines = data.columns.filter(({ name }) => cell(a, name) !== cell(b, name))
    .map(({ name, head }) => [head, cell(a, name), cell(b, name)]);
  return [make("p", {}, why), table(["value", "A", "B"], lines, ["", "number", "number"])];
}

// Putting it together

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value, selected: value === chosen }, text)));
}

function refresh() {
  const runs = visible();
  $("count").textContent = `${runs.length} of ${RUNS.length}`;
  for (const select of $("filters").querySelectorAll("select")) {
    select.value = state.filters[select.dataset.filter] ?? "";
    select.parentElement.classList.toggle("unset", select.value === "");
  }
  if ($("text").value !== state.text) $("text").value = state.text;
  $("all-columns").checked = state.all;
  drawTable(runs);
  drawBars(runs);
  drawChosen();
  drawCharts(runs);
}

function drawCharts(runs = visible()) {
  drawGrowth(runs);
  drawPlane(runs);
  drawRooflines(runs);
}

function addFilters() {
  for (const name of data.filters) {
    const column = columns[name];
    const values = [...new Map(RUNS.map((run) => [cell(run, name), sortedBy(run, column)])).entries()];
    if (values.length < 2) continue;
    values.sort(([, a], [, b]) => compare(a, b));
    const select = make("select", {
      onchange: ({ target }) => {
        const { [name]: _, ...others } = state.filters;
        [rows, bars] = [ROWS, BARS];
        show({ filters: target.value === "" ? others : { ...others, [name]: target.value } });
      },
    }, make("option", { value: "" }, "all"), ...values.map(([text]) => make("option", { value: text }, text)));
    select.dataset.filter = name;
    $("filters").append(make("label", { title: name }, column.head, select));
  }
  $("filters").append(make("input", {
    type: "search", id: "text", placeholder: "search", ariaLabel: "search in settings and names",
    oninput: ({ target }) => show({ text: target.value }),
  }));
}

function start() {
  addFilters();
  $("filters").onsubmit = (event) => event.preventDefault();
  const selects = { "x-column": "x", "y-column": "y", against: "against", cost: "cost" };
  for (const [id, key] of Object.entries(selects)) $(id).onchange = ({ target }) => show({ [key]: target.value });
  // Each size has axes of its own.
  $("size").onchange = ({ target }) => show({ size: target.value, against: "" });
  $("x-log").onchange = ({ target }) => show({ logarithmic: target.checked });
  $("all-columns").onchange = ({ target }) => show({ all: target.checked });
  $("more").onclick = () => {
    rows += ROWS;
    drawTable(visible());
  };
  $("more-bars").onclick = () => {
    bars += BARS;
    drawBars(visible());
  };
  $("difference").onclick = () => show({ open: "difference" });
  $("panel").onclose = () => show({ open: "" });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawCharts());
  for (const [event, printing] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      isPrinting = printing;
      if (printing) $("laws-details").open = true;
      drawCharts();
    });
  }
  addEventListener("hashchange", follow);
  follow();
  $("laws-details").open = $("laws").children.length <= 5;
}

start();
