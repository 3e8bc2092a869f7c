"use strict";
// The page around the figures: facts, panel of a role, search, choice of layer and group.
function facts() {
  byId("model").textContent = data.model;
  const rows = [
    ["Revision", data.revision.slice(0, 12)],
    ["Corpus", [data.corpus, data.corpus_digest.slice(0, 12)].filter(Boolean).join(" · ")],
    ["Responses", count(data.responses)],
    ["Roles", count(placed.length)],
    ["Middle layer", `${data.middle_layer} (of 0 to ${data.n_layers - 1})`],
    ["Width", count(data.d_model)],
    ["Design", data.design],
  ];
  for (const [name, value] of rows) {
    if (!value) continue;
    const row = make("div");
    row.append(make("dt", "", name), make("dd", "", value));
    byId("facts").append(row);
  }
  for (const answer of data.verdict) {
    const line = make("li");
    line.append(make("b", "", answer.question), make("span", `grade ${answer.grade.replace(" ", "-")}`, answer.grade));
    line.append(make("span", "why", answer.reasons.join("; ")));
    byId("verdict").append(line);
  }
  for (const text of data.warnings) byId("warnings").append(make("p", "warning", text));
  for (const f of data.figures) {
    const box = make("div", "figure");
    const interval = is(f.low) && is(f.high) ? `${f.interval} ${show(f.low, f.digits)} to ${show(f.high, f.digits)}` : "";
    box.append(make("div", "label", f.label), make("div", "value", show(f.value, f.digits)));
    if (interval) box.append(make("div", "interval", interval));
    box.append(make("div", "note", f.note));
    byId("figures").append(box);
  }
  for (const text of data.methods) byId("methods").append(make("li", "", text));
  for (const role of known.values()) {
    const option = make("option");
    option.value = title(role.name);
    byId("names").append(option);
  }
}

const meaning = { 3: "fully in the role", 2: "somewhat in the role", 1: "answers as an AI", 0: "refuses as an AI" };
let opened = "";
function openRole(name) {
  const role = known.get(name);
  opened = name;
  byId("panel-name").textContent = role === fallback ? "Default Assistant" : title(role.name);
  byId("panel-group").textContent = role === fallback ? "no role" : title(role.group || "role");
  byId("panel-description").textContent = role.description;
  tellPlace(role);
  const counts = byId("panel-counts");
  counts.replaceChildren();
  const entries = Object.entries(role.counts);
  const most = Math.max(...entries.map(([, n]) => n), 1);
  for (const [label, n] of entries) {
    const bars = make("span", "bar"), fill = make("span");
    fill.style.width = `${(n / most) * 100}%`;
    bars.append(fill);
    counts.append(make("span", "", label), bars, make("span", "", count(n)));
  }
  if (!entries.length) counts.append(make("span", "caption", "Not recorded."));
  const samples = byId("panel-samples");
  samples.replaceChildren();
  for (const sample of role.samples) {
    const box = make("div", "sample");
    const text = make("p", "text", sample.text + (sample.cut ? `\u2026 (${count(sample.cut)} more characters)` : ""));
    box.append(make("p", "question", sample.question), text);
    if (is(sample.score)) box.append(make("span", "score", `score ${sample.score}: ${meaning[sample.score] || "unknown"}`));
    samples.append(box);
  }
  if (!role.samples.length) samples.append(make("p", "caption", data.samples_note || "This role has no responses."));
  for (const entry of document.querySelectorAll(".entry")) entry.classList.toggle("on", entry.dataset.name === name);
  const panel = byId("panel");
  panel.hidden = false;
  panel.scrollTop = 0;
  byId("panel-name").focus({ preventScroll: true });
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
}
function tellPlace(role) {
  const place = rank.get(role.name);
  byId("panel-place").textContent = is(role.at)
    ? `${placeOf(role)} on the axis at layer ${view.layer}` + (place ? `, ${place} of ${placed.length} from the Assistant's end.` : ".")
    : "No vector: too few responses in the role.";
}
function closePanel() {
  byId("panel").hidden = true;
  opened = "";
  for (const entry of document.querySelectorAll(".entry.on")) entry.classList.remove("on");
  history.replaceState(null, "", "#");
}
function findRole(text) {
  const wanted = wantedText(text);
  if (!wanted) return null;
  const names = [...known.keys()];
  const of = (test) => names.find((n) => test(wantedText(n)));
  return of((n) => n === wanted) ?? of((n) => n.startsWith(wanted)) ?? of((n) => n.includes(wanted)) ?? null;
}

function drawMap() {
  drawRanking(openRole);
  drawLayers();
  drawVariance();
  drawSpace(openRole);
}
function drawAll() {
  readTheme();
  drawTraits();
  drawMap();
  drawResults();
}

function controls() {
  const layers = byId("layer");
  for (const one of views) {
    const option = make("option", "", `layer ${one.layer}${one.layer === data.middle_layer ? " (middle)" : ""}`);
    option.value = one.layer;
    layers.append(option);
  }
  layers.value = view.layer;
  layers.parentElement.hidden = views.length < 2;
  layers.addEventListener("change", () => {
    lookAt(views.find((one) => one.layer === Number(layers.value)));
    drawMap();
    if (opened) tellPlace(known.get(opened));
  });
  const groups = [...new Set(data.roles.map((r) => r.group).filter(Boolean))].sort();
  for (const name of groups) {
    const option = make("option", "", title(name));
    option.value = name;
    byId("group").append(option);
  }
  byId("group").parentElement.hidden = groups.length < 2;
  const change = () => {
    filter.group = byId("group").value;
    filter.text = byId("filter").value;
    drawRanking(openRole);
    drawSpace(openRole);
  };
  byId("group").addEventListener("change", change);
  byId("filter").addEventListener("input", change);
  saveButtons(byId("space-saves"), "space", null, () => byId("space"));
  saveButtons(byId("layers-saves"), "layers", layerRows, () => byId("layers"));
  saveButtons(byId("variance-saves"), "variance", varianceRows, () => byId("variance"));
  saveButtons(byId("ranking-saves"), "roles", rankingRows);
  saveButtons(byId("traits-saves"), "traits", traitRows);
}

lookAt(view);
facts();
addResults(byId("results"));
controls();
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
byId("expand").addEventListener("click", () => {
  expanded = !expanded;
  drawRanking(openRole);
});
byId("close").addEventListener("click", closePanel);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closePanel();
});
byId("search").addEventListener("change", (event) => {
  const name = findRole(event.target.value);
  event.target.setCustomValidity(name || !event.target.value ? "" : "There is no such role.");
  event.target.reportValidity();
  if (name) openRole(name);
});
byId("search").addEventListener("input", (event) => event.target.setCustomValidity(""));
const asked = decodeURIComponent(location.hash.slice(1));
if (known.has(asked)) openRole(asked);
document.documentElement.dataset.ready = "1";
