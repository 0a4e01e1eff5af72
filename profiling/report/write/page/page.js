"use strict";

// Every text from the records enters the page as text content and never as markup.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const $ = (id) => document.getElementById(id);
const data = read("data");
const position = Object.fromEntries(data.columns.map((column, i) => [column.name, i]));
const latency = data.columns[position.latency_s];
const value = (run, name) => data.rows[run][position[name]];
const lazy = (id) => {
  let kept;
  return () => (kept ??= read(id));
};
const samples = lazy("samples");
const pictures = lazy("pictures");

const STEP = 100;
const MOST_BARS = 40;
const MOST_LABELS = 16;
const state = { filters: {}, text: "", sort: "model", descending: false, shown: STEP, chosen: [] };

// Elements

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function table(head, rows) {
  const line = (cells, tag) => make("tr", {}, ...cells.map((cell) => make(tag, {}, cell)));
  return make("div", { className: "wide" }, make("table", {},
    make("thead", {}, line(head, "th")),
    make("tbody", {}, ...rows.map((row) => line(row, "td")))));
}

// Numbers

const STEPS = {
  s: [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]],
  J: [[1e3, "kJ"], [1, "J"], [1e-3, "mJ"], [1e-6, "µJ"]],
  bytes: [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]],
  FLOP: [[1e15, "PFLOP"], [1e12, "TFLOP"], [1e9, "GFLOP"], [1e6, "MFLOP"], [1, "FLOP"]],
};

function digits(number) {
  if (number === 0 || Number.isInteger(number)) return String(number);
  const size = Math.floor(Math.log10(Math.abs(number)));
  return size < -4 || size > 6 ? number.toExponential(2) : number.toFixed(Math.max(0, 2 - size));
}

function quantity(number, unit) {
  if (number === 0) return unit === "bytes" ? "0 B" : `0 ${STEPS[unit] ? unit : ""}`.trim();
  const steps = STEPS[unit] ?? [[1, unit === "1" ? "" : unit.replace("1/", "/")]];
  const [factor, name] = steps.find(([step]) => Math.abs(number) >= step) ?? steps.at(-1);
  return `${digits(number / factor)} ${name}`.trim();
}

function show(run, name) {
  const found = value(run, name);
  const column = data.columns[position[name]];
  if (found === null) return "–";
  if (column.kind !== "number") return String(found);
  const text = column.share ? `${(100 * found).toFixed(0)}%` : quantity(found, column.unit);
  const noisy = column.timed && value(run, "noisy") ? data.noisy : "";
  return (column.estimated ? `${data.estimated} ` : "") + text + noisy;
}

const nameOf = (run) => data.names[run] + data.marks[run];
const settingOf = (run, names = data.settings) => names
  .map((name) => value(run, name)).filter((found) => found !== null).join(" · ");
const differing = (runs, names) =>
  names.filter((name) => new Set(runs.map((run) => value(run, name))).size > 1);

// Which runs are shown

function compare(a, b) {
  if (a === b) return 0;
  if (a === null) return 1;
  if (b === null) return -1;
  const order = typeof a === "string" ? a.localeCompare(b) : a - b;
  return state.descending ? -order : order;
}

function visible() {
  const wanted = Object.entries(state.filters).filter(([, text]) => text !== "");
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  return data.rows.map((_, run) => run)
    .filter((run) => wanted.every(([name, text]) => String(value(run, name)) === text))
    .filter((run) => words.every((word) => data.search[run].includes(word)))
    .sort((a, b) => compare(value(a, state.sort), value(b, state.sort)) || a - b);
}

// Charts

const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const charts = {};

function draw(id, configuration) {
  charts[id]?.destroy();
  configuration.options = {
    animation: false, maintainAspectRatio: false, responsive: true, ...configuration.options,
  };
  charts[id] = new Chart($(id), configuration);
}

function axis(text, unit, more = {}) {
  return {
    title: { display: true, text, color: ink("--ink") },
    ticks: {
      color: ink("--soft"), maxTicksLimit: 7,
      callback: unit ? (tick) => quantity(tick, unit) : undefined,
    },
    grid: { color: ink("--line") },
    ...more,
  };
}

function drawBars(runs) {
  const timed = runs.filter((run) => value(run, "latency_s") !== null);
  const shown = timed.slice(0, MOST_BARS);
  $("bars-note").textContent = timed.length > MOST_BARS ? `first ${MOST_BARS} of ${timed.length}` : "";
  const names = differing(shown, ["model", ...data.settings]);
  const phases = data.phases.filter(({ name }) => shown.some((run) => value(run, `${name}_s`)));
  draw("bars", {
    type: "bar",
    data: {
      labels: shown.map((run) => settingOf(run, names) + data.marks[run]),
      datasets: phases.map(({ name, colour }) => ({
        label: name, backgroundColor: colour,
        data: shown.map((run) => Math.max(0, value(run, `${name}_s`) ?? 0)),
      })),
    },
    options: {
      onClick: (_, hit) => hit.length && openRun(shown[hit[0].index]),
      scales: {
        x: axis(names.join(" · "), null, {
          stacked: true, grid: { display: false },
          ticks: { display: shown.length <= MOST_LABELS, autoSkip: false, color: ink("--soft") },
        }),
        y: axis(latency.title, latency.unit, { stacked: true }),
      },
      plugins: {
        legend: { labels: { color: ink("--ink"), boxWidth: 12 } },
        tooltip: {
          callbacks: {
            title: ([item]) => `${nameOf(shown[item.dataIndex])} ${settingOf(shown[item.dataIndex])}`,
            label: (item) => `${item.dataset.label} ${quantity(item.parsed.y, latency.unit)}`,
          },
        },
      },
    },
  });
}

function drawPlane(runs) {
  const [x, y] = [$("x-column").value, $("y-column").value];
  const models = [...new Set(data.rows.map((_, run) => value(run, "model")))].sort();
  const unit = (name) => data.columns[position[name]].unit;
  const points = (model) => runs
    .filter((run) => value(run, "model") === model && value(run, x) !== null && value(run, y) !== null)
    .map((run) => ({ x: value(run, x), y: value(run, y), run }));
  const about = ({ raw }) => [`${nameOf(raw.run)} ${value(raw.run, "model")}`, settingOf(raw.run),
    `${x} ${show(raw.run, x)}`, `${y} ${show(raw.run, y)}`];
  draw("plane", {
    type: "scatter",
    data: {
      datasets: models.map((model, i) => ({
        label: String(model), data: points(model), pointRadius: 4, pointHoverRadius: 7,
        pointStyle: data.shapes[i % data.shapes.length],
        backgroundColor: data.colours[i % data.colours.length],
        borderColor: data.colours[i % data.colours.length],
      })),
    },
    options: {
      onClick: (_, hit, chart) =>
        hit.length && openRun(chart.data.datasets[hit[0].datasetIndex].data[hit[0].index].run),
      scales: {
        x: axis(x, unit(x), { type: $("x-log").checked ? "logarithmic" : "linear" }),
        y: axis(y, unit(y)),
      },
      plugins: {
        legend: { labels: { color: ink("--ink"), usePointStyle: true, boxHeight: 7 } },
        tooltip: { callbacks: { label: about } },
      },
    },
  });
}

// The table

function drawTable(runs) {
  const names = $("all-columns").checked ? data.columns.map(({ name }) => name) : data.main;
  const head = names.map((name) => {
    const arrow = name === state.sort ? (state.descending ? " ▾" : " ▴") : "";
    const button = make("button", {
      type: "button", title: data.columns[position[name]].title, onclick: () => sortBy(name),
    }, name + arrow);
    button.dataset.sort = name;
    return make("th", { className: data.columns[position[name]].kind }, button);
  });
  $("runs").tHead.replaceChildren(make("tr", {}, make("th"), make("th", {}, "run"), ...head));
  const rows = runs.slice(0, state.shown).map((run) => tableRow(run, names));
  $("runs").tBodies[0].replaceChildren(...rows);
  $("more").hidden = runs.length <= state.shown;
  $("more").textContent = `more rows (${runs.length - state.shown})`;
}

function tableRow(run, names) {
  const box = make("input", {
    type: "checkbox", checked: state.chosen.includes(run), ariaLabel: "choose",
    onchange: (event) => choose(run, event.target.checked),
  });
  const open = make("button", { type: "button", className: "name", onclick: () => openRun(run) }, nameOf(run));
  const cells = names.map((name) =>
    make("td", { className: data.columns[position[name]].kind }, show(run, name)));
  return make("tr", {}, make("td", {}, box), make("td", {}, open), ...cells);
}

function sortBy(name) {
  state.descending = state.sort === name && !state.descending;
  state.sort = name;
  refresh();
}

function choose(run, wanted) {
  state.chosen = state.chosen.filter((other) => other !== run);
  if (wanted) state.chosen = [...state.chosen, run].slice(-2);
  $("difference").disabled = state.chosen.length !== 2;
  $("chosen").textContent = state.chosen.map(nameOf).join(" and ");
  drawTable(visible());
}

// One run, and two

function open(...children) {
  $("content").replaceChildren(...children.filter((child) => child !== null));
  if (!$("panel").open) $("panel").showModal();
  $("panel").scrollTop = 0;
}

function openRun(run) {
  const details = read(`run-${run}`);
  const json = (title, content) => [make("h3", {}, title), make("pre", {}, JSON.stringify(content, null, 1))];
  const failure = details.error === null ? null : make("p", {}, `${value(run, "status")}: ${details.error}`);
  open(
    make("h2", {}, `${nameOf(run)} ${value(run, "model")}`), make("p", {}, settingOf(run)), failure,
    ...phasesOf(run), ...answersOf(details), make("h3", {}, "Values"), valuesOf(run, details),
    ...json("Configuration", details.config), ...json("Machine", details.machine),
    ...json("Versions", details.versions),
  );
}

function phasesOf(run, longest = 0) {
  const parts = data.phases.map((phase) => ({ ...phase, size: value(run, `${phase.name}_s`) }))
    .filter(({ size }) => size !== null && size > 0);
  const total = parts.reduce((sum, { size }) => sum + size, 0);
  if (!total) return [];
  const colour = (element, part) => {
    element.style.background = part.colour;
    return element;
  };
  const bars = parts.map((part) => {
    const bar = colour(make("div", { title: part.name }), part);
    bar.style.width = `${(100 * part.size) / Math.max(total, longest)}%`;
    return bar;
  });
  const legend = parts.map((part) => make("li", {},
    colour(make("span", { className: "swatch" }), part),
    `${part.name} ${quantity(part.size, latency.unit)} (${((100 * part.size) / total).toFixed(0)}%)`));
  return [make("h3", {}, `One batch: ${show(run, "latency_s")}`),
    make("div", { className: "stack" }, ...bars), make("ul", { className: "legend" }, ...legend)];
}

function answersOf(details) {
  if (!details.answers.length) return [];
  const rows = details.answers.map(([index, answer, wer]) => {
    const sample = samples()[index];
    const source = sample.picture === null ? null : pictures()[sample.picture];
    const picture = source === null ? "" : make("img", { src: source, alt: sample.id, loading: "lazy" });
    return [picture, sample.question, sample.references.join(" / "), answer, wer === null ? "–" : digits(wer)];
  });
  const left = details.num_answers - details.answers.length;
  return [make("h3", {}, "Answers"), table(["picture", "question", "references", "answer", data.columns[position.wer].title], rows),
    make("p", {}, left ? `${left} more are in answers.jsonl.` : "")];
}

function valuesOf(run, details) {
  const rows = data.columns.map(({ name }) => {
    const [status, source] = details.provenance[name] ?? ["", ""];
    return [name, show(run, name), [status, source].filter(Boolean).join(": ")];
  }).filter(([, text, source]) => text !== "–" || source);
  return table(["column", "value", "status and source where not measured"], rows);
}

function openDifference() {
  const [a, b] = state.chosen;
  const rows = data.columns.filter(({ name }) => value(a, name) !== value(b, name)).map((column) => {
    const [mine, other] = [value(a, column.name), value(b, column.name)];
    const relative = column.kind === "number" && mine !== null && other !== null && mine !== 0;
    const change = relative ? (100 * (other - mine)) / Math.abs(mine) : null;
    const text = change === null ? "" : `${change > 0 ? "+" : ""}${change.toFixed(1)}%`;
    return [column.name, show(a, column.name), show(b, column.name), text];
  });
  const title = [a, b].map((run) => `${nameOf(run)} ${value(run, "model")}`).join(" and ");
  const longest = Math.max(value(a, "latency_s") ?? 0, value(b, "latency_s") ?? 0);
  open(make("h2", {}, title), ...phasesOf(a, longest), ...phasesOf(b, longest),
    make("h3", {}, "What differs"), table(["column", nameOf(a), nameOf(b), "change"], rows));
}

// Putting it together

function refresh() {
  const runs = visible();
  $("count").textContent = `${runs.length} of ${data.rows.length}`;
  drawTable(runs);
  drawBars(runs);
  drawPlane(runs);
}

function option(name, chosen) {
  return make("option", { value: name, selected: name === chosen }, name);
}

function addFilters() {
  for (const name of data.filters) {
    const values = [...new Set(data.rows.map((_, run) => value(run, name)))].sort(compare);
    if (values.length < 2) continue;
    const select = make("select", {
      onchange: (event) => {
        state.filters[name] = event.target.value;
        state.shown = STEP;
        refresh();
      },
    }, make("option", { value: "" }, "all"), ...values.map((found) =>
      make("option", { value: String(found) }, found === null ? "as it is" : String(found))));
    select.dataset.filter = name;
    $("filters").append(make("label", {}, name, select));
  }
  $("filters").append(make("input", {
    type: "search", id: "text", placeholder: "search", ariaLabel: "search in all columns",
    oninput: (event) => {
      state.text = event.target.value;
      refresh();
    },
  }));
}

function start() {
  const numbers = data.columns.filter(({ kind }) => kind === "number").map(({ name }) => name)
    .filter((name) => data.rows.some((row) => row[position[name]] !== null));
  const second = numbers.includes("wer") ? "wer" : numbers.at(-1);
  $("x-column").append(...numbers.map((name) => option(name, "latency_s")));
  $("y-column").append(...numbers.map((name) => option(name, second)));
  addFilters();
  $("filters").onsubmit = (event) => event.preventDefault();
  for (const id of ["x-column", "y-column", "x-log"]) $(id).onchange = () => drawPlane(visible());
  $("all-columns").onchange = () => drawTable(visible());
  $("more").onclick = () => {
    state.shown += STEP;
    drawTable(visible());
  };
  $("difference").onclick = openDifference;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  refresh();
}

start();
