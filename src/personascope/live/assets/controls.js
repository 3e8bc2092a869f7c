// The pickers of the two columns, and the settings that both share.

import { make } from "./scale.js";
import { conversation, requestBody, state } from "./state.js";

const KINDS = { none: "No plan", plan: "", cap: "Cap at a percentile", steer: "Steer along the axis" };

/** Return the name of a column. */
export function columnName(column, about) {
  if (column.kind === "cap") return `Cap at percentile ${column.percentile}, layers ${column.from} to ${column.to - 1}`;
  if (column.kind === "steer") return `Steered by ${column.strength}`;
  if (column.kind === "none") return "No plan";
  return about?.plans.find((plan) => plan.digest === column.plan)?.name ?? `Plan ${column.plan.slice(0, 12)}`;
}

/** Choose the columns of a page that is opened: no plan, and the best of what is served. */
export function firstColumns(about) {
  const n = about.n_layers;
  for (const column of state.columns) Object.assign(column, { from: Math.round(n * 0.4), to: Math.round(n * 0.67) });
  if (about.plans.length) {
    const plan = about.default_plan ?? about.plans[0].digest;
    Object.assign(state.columns[1], { kind: "plan", plan });
  } else if (about.inline.cap) state.columns[1].kind = "cap";
}

/**
 * Draw both pickers. `changed` is called after a choice that shows other fields, `tuned` after one that does not,
 * `copied` with a text for the clipboard.
 */
export function drawPickers(into, about, acts) {
  into.replaceChildren(...state.columns.map((column, number) => picker(column, number, about, acts)));
}

function picker(column, number, about, { changed, tuned, copied }) {
  const set = make("fieldset", `picker col${number}`);
  const legend = make("legend", "", number === 0 ? "Left" : "Right");
  const opts = make("div", "opts");
  const choice = make("select");
  choice.setAttribute("aria-label", `Plan of the ${number === 0 ? "left" : "right"} column`);
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
  choice.addEventListener("change", () => {
    const [kind, digest] = choice.value.split(" ");
    Object.assign(column, { kind, plan: digest ?? column.plan });
    changed();
  });
  opts.append(choice);
  if (column.kind === "cap") opts.append(...capFields(column, about, changed, tuned));
  if (column.kind === "steer")
    opts.append(slider("Strength, as a fraction of the norm", column, "strength", -0.6, 0.6, 0.02, tuned));
  const known = about.plans.find((plan) => column.kind === "plan" && plan.digest === column.plan);
  if (known) opts.append(make("p", "fine", `layers ${known.layers.join(", ")} · ${known.digest.slice(0, 12)}`));
  const copy = make("button", "copy", "Copy as request");
  copy.type = "button";
  copy.addEventListener("click", () => copied(requestOf(number, about)));
  opts.append(copy);
  set.append(legend, opts);
  return set;
}

function requestOf(number, about) {
  const message = document.getElementById("message").value.trim();
  const { turns } = conversation();
  const asked = message || !turns.length ? [...turns, { user: message || "…" }] : turns;
  return JSON.stringify(requestBody(number, about.model, asked.length - 1, asked), null, 2);
}

function capFields(column, about, changed, tuned) {
  const pair = make("div", "pair");
  const ends = [["from", "First layer", 0, about.n_layers - 1], ["to", "Up to, without", 1, about.n_layers]];
  for (const [name, label, low, high] of ends) {
    const field = make("label", "", `${label} `);
    const input = make("input");
    Object.assign(input, { type: "number", min: low, max: high, step: 1, value: column[name] });
    input.addEventListener("change", () => {
      column[name] = Math.max(low, Math.min(high, Math.round(input.valueAsNumber || 0)));
      if (column.from >= column.to) {
        if (name === "from") column.to = column.from + 1;
        else column.from = column.to - 1;
      }
      changed();
    });
    field.append(input);
    pair.append(field);
  }
  return [slider("Floor, as a percentile of the roles", column, "percentile", 1, 99, 1, tuned), pair];
}

function slider(label, column, name, low, high, step, tuned) {
  const field = make("label", "", `${label} `);
  const value = make("output", "", String(column[name]));
  const input = make("input");
  Object.assign(input, { type: "range", min: low, max: high, step, value: column[name] });
  input.addEventListener("input", () => {
    column[name] = Number(input.value);
    value.textContent = input.value;
  });
  input.addEventListener("change", tuned);
  field.append(value, input);
  return field;
}

/** Tie the number fields and the system prompt to the state. */
export function tieSettings() {
  const most = Number.MAX_SAFE_INTEGER;
  const fields = [["temperature", 0, 2, 0.7], ["seed", 0, most, 0], ["tokens", 1, 100000, 160]];
  for (const [id, low, high, otherwise] of fields) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => {
      const given = Number.isFinite(input.valueAsNumber) ? input.valueAsNumber : otherwise;
      const kept = Math.max(low, Math.min(high, id === "temperature" ? given : Math.round(given)));
      state[id] = kept;
      input.value = kept;
    });
  }
  document.getElementById("system").addEventListener("input", (event) => {
    state.system = event.target.value;
  });
}

/** Show the settings of the state. */
export function drawSettings() {
  for (const id of ["temperature", "seed", "tokens", "system"]) document.getElementById(id).value = state[id];
  document.getElementById("before").checked = state.before;
}
