"use strict";
// What all parts of the page share: the data, the layer in view, colours, tables and files to save.
const data = JSON.parse(document.getElementById("payload").textContent);
const byId = (id) => document.getElementById(id);
const END = 30;
const is = (x) => x !== null && x !== undefined;
const show = (x, digits = 2) => (is(x) ? x.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "\u2212") : "\u2013");
const percent = (x) => (is(x) ? `${show(100 * x, 1)}%` : "\u2013");
const count = (n) => n.toLocaleString("en");
const title = (name) => name.replaceAll("_", " ");
// Plotly reads a little markup in its labels.
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const range = (r, write = show) => write(r.estimate) + (is(r.low) && is(r.high) ? ` (${write(r.low)} to ${write(r.high)})` : "");

function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (is(text)) node.textContent = text;
  return node;
}

// The layer in view. Without views of layers there are raw projections at the middle layer alone.
const vectors = data.roles.filter((r) => is(r.projection));
const fallback = data.default;
const views = data.layers.length ? data.layers : [{
  layer: data.middle_layer, mean: null, default: null, projections: vectors.map((r) => r.projection),
  points: vectors.map((r) => r.point), default_point: fallback.point, axis: data.axis, variance: data.variance,
}];
const known = new Map([...data.roles, fallback].map((r) => [r.name, r]));
let view = views.find((v) => v.layer === data.middle_layer) || views[0];
let placed = [], rank = new Map(), mid = 0, half = 1;
const hasUnits = () => is(view.mean);
const unit = () => (hasUnits() ? "position" : "projection");
const toUnits = (raw) => (!is(raw) ? null : hasUnits() ? (raw - view.mean) / (view.default - view.mean) : raw);
const rawOf = (value) => (hasUnits() ? view.mean + value * (view.default - view.mean) : value);

function lookAt(chosen) {
  view = chosen;
  const own = view.layer === data.middle_layer;
  vectors.forEach((role, i) => {
    role.raw = view.projections[i];
    role.at = toUnits(role.raw);
    role.place = view.points[i];
    role.from = own ? toUnits(role.low) : null;
    role.to = own ? toUnits(role.high) : null;
  });
  fallback.raw = hasUnits() ? view.default : fallback.projection;
  fallback.at = toUnits(fallback.raw);
  fallback.place = view.default_point;
  fallback.from = own && !hasUnits() ? fallback.low : null;
  fallback.to = own && !hasUnits() ? fallback.high : null;
  placed = [...vectors].sort((a, b) => b.at - a.at);
  rank = new Map(placed.map((r, i) => [r.name, i + 1]));
  const values = placed.map((r) => r.at);
  const least = Math.min(...values), most = Math.max(...values);
  mid = values.length ? (least + most) / 2 : 0;
  half = values.length ? Math.max((most - least) / 2, 1e-9) : 1;
}
const placeOf = (role) =>
  `${unit()} ${show(role.at)}` + (is(role.from) && is(role.to) ? ` (${show(role.from)} to ${show(role.to)})` : "") +
  (hasUnits() ? `, raw ${show(role.raw)}` : "");

// The roles that search and group leave.
const filter = { text: "", group: "" };
const wantedText = (text) => text.trim().toLowerCase().replaceAll("_", " ");
const filtered = () => Boolean(filter.text || filter.group);
function matches(role) {
  const text = wantedText(filter.text);
  return (!filter.group || role.group === filter.group) &&
    (!text || title(role.name).toLowerCase().includes(text) || role.description.toLowerCase().includes(text));
}

const theme = {};
function readTheme() {
  const style = getComputedStyle(document.documentElement);
  for (const key of ["bg", "card", "ink", "soft", "line", "assistant", "role", "middle", "good", "hover"]) {
    theme[key] = style.getPropertyValue(`--${key}`).trim();
  }
}
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const faint = (hex, alpha) => `rgba(${rgb(hex).join(",")},${alpha})`;
function colour(value) {
  const t = Math.max(-1, Math.min(1, (value - mid) / half));
  const from = rgb(theme.middle), to = rgb(t < 0 ? theme.role : theme.assistant);
  return `rgb(${from.map((c, i) => Math.round(c + (to[i] - c) * Math.abs(t))).join(",")})`;
}
const scaleColours = () => [[0, theme.role], [0.5, theme.middle], [1, theme.assistant]];
const config = { displayModeBar: false, responsive: true };

function layout(extra) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 48, r: 12, t: 10, b: 44 },
    font: { family: "system-ui, sans-serif", size: 12.5, color: theme.ink },
    hoverlabel: { bgcolor: theme.card, bordercolor: theme.line, font: { color: theme.ink, size: 13 }, align: "left" },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12, color: theme.soft } },
    ...extra,
  };
}
const flat = (extra) => ({ gridcolor: theme.line, zerolinecolor: theme.line, linecolor: theme.line, tickcolor: theme.line, automargin: true, ...extra });

// A spreadsheet takes a text that begins like a formula for one, and names come from elsewhere.
function cell(value) {
  if (!is(value)) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
const csvOf = (rows) => rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
const fileName = (part, suffix) => `${data.model.replace(/[^\w.-]+/g, "_").replace(/^_+/, "")}_${part}.${suffix}`;

function saveButtons(host, part, rows, plot) {
  const box = make("span", "saves");
  if (rows) {
    const csv = make("button", "button", "CSV");
    csv.type = "button";
    csv.title = "Save the table as CSV";
    csv.addEventListener("click", () => {
      const link = make("a");
      link.href = URL.createObjectURL(new Blob(["\ufeff", csvOf(rows())], { type: "text/csv;charset=utf-8" }));
      link.download = fileName(part, "csv");
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    box.append(csv);
  }
  if (plot) {
    const svg = make("button", "button", "SVG");
    svg.type = "button";
    svg.title = "Save the figure as SVG";
    svg.addEventListener("click", () => Plotly.downloadImage(plot(), { format: "svg", filename: fileName(part, "svg").slice(0, -4) }));
    box.append(svg);
  }
  host.append(box);
}

function table(head, rows) {
  const node = make("table", "numbers"), top = make("tr"), body = make("tbody");
  const words = head.map((_, i) => !i || rows.some((row) => /[a-z]{3}/i.test(row[i])));
  head.forEach((text, i) => top.append(make("th", words[i] ? "word" : "", text)));
  for (const row of rows) {
    const line = make("tr");
    row.forEach((text, i) => line.append(make("td", words[i] ? "word" : "", text)));
    body.append(line);
  }
  const thead = make("thead");
  thead.append(top);
  node.append(thead, body);
  const box = make("div", "scroll");
  box.tabIndex = 0;
  box.append(node);
  return box;
}
