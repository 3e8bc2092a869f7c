// The pickers of the two columns, and the settings that both share.

import { curlOf, planText, pythonOf } from "./copies.js";
import { make } from "./scale.js";
import { conversation, requestBody, settings, state } from "./state.js";

const KINDS = { none: "No plan", plan: "", cap: "Cap at a percentile", steer: "Steer along the axis" };

/** Choose the columns of a page that is opened: no plan, and the best of what is served. */
export function firstColumns(about) {
  const n = about.n_layers;
  const { columns } = settings();
  for (const column of columns) Object.assign(column, { from: Math.round(n * 0.4), to: Math.round(n * 0.67) });
  if (about.plans.length) {
    const plan = about.default_plan ?? about.plans[0].digest;
    Object.assign(columns[1], { kind: "plan", plan });
  } else if (about.inline.cap) columns[1].kind = "cap";
}

/**
 * Draw both pickers. `changed` is called after a choice that shows other fields, `tuned` after one that does not,
 * `copied` with a text for the clipboard.
 */
export function drawPickers(into, about, acts) {
  into.replaceChildren(...settings().columns.map((column, number) => picker(column, number, about, acts)));
}

function picker(column, number, about, { changed, tuned, copied }) {
  const set = make("fieldset", `picker col${number}`);
  const side = number === 0 ? "left" : "right";
  const legend = make("legend", "", number === 0 ? "Left" : "Right");
  const opts = make("div", "opts");
  const choice = make("select");
  choice.setAttribute("aria-label", `Plan of the ${side} column`);
  const add = (value, text, on) => {
    const option = make("option", "", text);
    option.value = value;
    option.selected = on;
    choice.append(option);
  };
  add("none", KINDS.none, column.kind === "none");
  for (const plan of about.plans)
    add(`plan ${plan.digest}`, plan.name, column.kind === "plan" && column.plan === plan.digest);
  if (about.inline.cap) add("cap", KINDS.cap, column.kind === "cap");
  if (about.inline.steer) add("steer", KINDS.steer, column.kind === "steer");
  const known = about.plans.find((plan) => plan.digest === column.plan);
  if (column.kind === "plan" && !known) add(`plan ${column.plan}`, `${column.plan.slice(0, 12)} (not on this server)`, true);
  choice.addEventListener("change", () => {
    const [kind, digest] = choice.value.split(" ");
    Object.assign(column, { kind, plan: digest ?? column.plan });
    changed();
  });
  opts.append(choice);
  if (column.kind === "cap") opts.append(...capFields(column, about, side, changed, tuned));
  if (column.kind === "steer") opts.append(...steerFields(column, about, side, changed, tuned));
  if (column.kind === "plan" && known)
    opts.append(make("p", "fine", `layers ${known.layers.join(", ")} · ${known.digest.slice(0, 12)}`));
  const row = make("div", "copies");
  const copies = [
    ["Copy as plan", () => planText(column)],
    ["curl", () => curlOf(requestOf(number, about))],
    ["Python", () => pythonOf(requestOf(number, about))],
  ];
  for (const [label, text] of copies) {
    const button = make("button", "copy", label);
    button.type = "button";
    button.setAttribute("aria-label", label === "Copy as plan"
      ? `Copy the plan of the ${side} column` : `Copy the request of the ${side} column as ${label}`);
    button.addEventListener("click", () => copied(text()));
    row.append(button);
  }
  row.insertBefore(make("span", "fine", "Copy as request:"), row.children[1]);
  opts.append(row);
  set.append(legend, opts);
  return set;
}

/** Return what the column would be asked next; the last message again where none is written. */
function requestOf(number, about) {
  const message = document.getElementById("message").value.trim();
  const { turns, ...talk } = conversation();
  const asked = message || !turns.length ? [...turns, { user: message || "Hello" }] : turns;
  return requestBody(number, about.model, asked.length - 1, { ...talk, turns: asked });
}

function capFields(column, about, side, changed, tuned) {
  const last = about.n_layers - 1;
  return [
    slider(`Floor of the ${side} cap`, "Floor, as a percentile of the roles", column.percentile, [1, 99, 1], (value) => {
      column.percentile = value;
    }, tuned),
    slider(`First layer of the ${side} cap`, "First layer", column.from, [0, last, 1], (value) => {
      column.from = value;
      if (column.to <= value) column.to = value + 1;
    }, changed),
    slider(`Last layer of the ${side} cap`, "Last layer", column.to - 1, [0, last, 1], (value) => {
      column.to = value + 1;
      if (column.from > value) column.from = value;
    }, changed),
  ];
}

function steerFields(column, about, side, changed, tuned) {
  const at = column.layer ?? about.map?.layer ?? 0;
  return [
    slider(`Strength of the ${side} steering`, "Strength, as a fraction of the norm", column.strength, [-0.6, 0.6, 0.02],
      (value) => { column.strength = value; }, tuned),
    slider(`Layer of the ${side} steering`, "Layer", at, [0, about.n_layers - 1, 1],
      (value) => { column.layer = value; }, tuned),
  ];
}

function slider(name, label, now, [low, high, step], set, after) {
  const field = make("label", "", `${label} `);
  const value = make("output", "", String(now));
  const input = make("input");
  Object.assign(input, { type: "range", min: low, max: high, step, value: now });
  input.setAttribute("aria-label", name);
  input.addEventListener("input", () => {
    set(Number(input.value));
    value.textContent = input.value;
  });
  input.addEventListener("change", after);
  field.append(value, input);
  return field;
}

/** Tie the number fields and the system prompt to the settings of the conversation that is shown. */
export function tieSettings() {
  const most = Number.MAX_SAFE_INTEGER;
  const fields = [["temperature", 0, 2, 0.7], ["seed", 0, most, 0], ["tokens", 1, 100000, 160]];
  for (const [id, low, high, otherwise] of fields) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => {
      const given = Number.isFinite(input.valueAsNumber) ? input.valueAsNumber : otherwise;
      const kept = Math.max(low, Math.min(high, id === "temperature" ? given : Math.round(given)));
      settings()[id] = kept;
      input.value = kept;
    });
  }
  document.getElementById("system").addEventListener("input", (event) => {
    settings().system = event.target.value;
  });
}

/** Show the settings of the conversation that is shown. */
export function drawSettings() {
  for (const id of ["temperature", "seed", "tokens", "system"]) document.getElementById(id).value = settings()[id];
  document.getElementById("before").checked = state.before;
}
