// Drawing from the state: tabs, columns, turns, and the panels beside them.

import { $, app, canAsk, copy, namesOf, sourceOf } from "./app.js";
import { drawChart } from "./chart.js";
import { drawPickers, drawSettings } from "./controls.js";
import { drawLayers } from "./layers.js";
import { drawLegend, make } from "./scale.js";
import { drawSpace } from "./space.js";
import { canUndo, conversation, state } from "./state.js";
import { hideTip, ReplyView, userView } from "./view.js";

/** Draw everything anew. */
export function draw() {
  hideTip();
  const talk = conversation();
  drawColumns();
  drawSettings();
  drawOrigin(talk);
  const map = sourceOf(talk)?.map;
  if (map) drawLegend($("legend"), map.layer);
  else $("legend").replaceChildren();
  $("tabs").replaceChildren(...state.conversations.map(tab));
  app.views = talk.turns.map(drawTurn);
  $("turns").replaceChildren(...app.views.map((view) => view.node));
  $("empty").hidden = talk.turns.length > 0 || app.running !== null;
  $("heads").hidden = !$("empty").hidden;
  $("ask").hidden = !canAsk(talk);
  $("settings").hidden = !canAsk(talk);
  buttons();
  panels();
}

/** Say where a conversation that is not of this server comes from. */
function drawOrigin(talk) {
  const source = sourceOf(talk);
  const parts = [talk.note];
  if (talk.kind === "recorded") parts.unshift("Recorded.");
  if (talk.source) {
    const map = source.map ? `, map ${source.map.digest.slice(0, 12)}` : "";
    parts.push(`Of ${source.model}${map}${app.about ? ", which this server does not have: it can be read, not continued" : ""}.`);
  }
  const made = talk.kind === "recorded" ? source.provenance : null;
  if (made?.date) parts.push(`${made.date}.`);
  $("origin").replaceChildren(make("p", "", parts.filter(Boolean).join(" ")));
  if (made) {
    const more = make("details");
    more.append(make("summary", "", "What it was made with"));
    for (const [name, value] of Object.entries(made)) more.append(make("p", "fine", `${name}: ${value}`));
    $("origin").append(more);
  }
  $("origin").hidden = !$("origin").textContent;
}

/** Draw what the columns are set to; replies that are being written stay as they are. */
export function drawColumns() {
  if (app.about) {
    const label = document.activeElement?.getAttribute("aria-label");
    drawPickers($("pickers"), app.about, { changed: drawColumns, tuned: drawHeads, copied: copy });
    if (label) [...$("pickers").querySelectorAll("select, input")].find((one) => one.ariaLabel === label)?.focus();
  }
  drawHeads();
}

function drawHeads() {
  $("heads").replaceChildren(...namesOf().map((name, column) => make("div", `head col${column}`, name)));
}

/** Show which buttons can be used now. */
export function buttons() {
  const busy = app.running !== null;
  const { turns } = conversation();
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  $("halt").hidden = !busy || canAsk();
  $("undo").disabled = busy || !canUndo();
  $("replay").disabled = busy || !turns.some((turn) => turn.replies.some((reply) => reply.tokens.length));
  for (const node of document.querySelectorAll(".acts button, #new, #open, #share, #compare, #tour, #tabs button, #empty button"))
    node.disabled = busy;
  $("new").hidden = app.about === null;
}

function tab(talk, number) {
  const button = make("button", "", talk.title || talk.turns[0]?.user.slice(0, 40) || `Conversation ${number + 1}`);
  button.type = "button";
  button.setAttribute("aria-pressed", String(number === state.current));
  button.addEventListener("click", () => {
    state.current = number;
    app.picked = null;
    draw();
  });
  return button;
}

function drawTurn(turn, number) {
  const node = make("section", "turn");
  node.setAttribute("aria-label", `Turn ${number + 1}`);
  const pair = make("div", "pair2");
  const names = namesOf();
  const replies = turn.replies.map((reply, column) => new ReplyView(reply, column, names[column], {
    pick: (token) => {
      app.picked = { turn: number, column, token };
      if (app.panel === "layers") panels();
    },
  }));
  pair.append(...replies.map((view) => view.node));
  const again = () => app.acts.edit(number, turn.user);
  const acts = { edit: (text) => app.acts.edit(number, text), branch: () => app.acts.branch(number), again };
  node.append(userView(turn, number, canAsk() ? acts : {}), pair);
  return { node, replies };
}

/** Scroll to a reply, and to one of its tokens. */
export function visit(turn, column, token = null) {
  const view = app.views[turn].replies[column];
  app.picked = { turn, column, token: null };
  view.node.scrollIntoView({ block: "center" });
  view.node.focus({ preventScroll: true });
  view.node.classList.add("flash");
  setTimeout(() => view.node.classList.remove("flash"), 1200);
  if (token) view.show(token);
}

/** Draw the panel that is shown: trajectory, persona space or layers. */
export function panels() {
  const talk = conversation();
  const source = sourceOf(talk);
  for (const name of ["path", "space", "layers"]) {
    const shown = name === app.panel;
    $(`panel-${name}`).hidden = !shown;
    $(`tab-${name}`).setAttribute("aria-selected", String(shown));
    $(`tab-${name}`).tabIndex = shown ? 0 : -1;
  }
  const after = source?.reads?.before === false;
  // By layer, both are drawn at once.
  $("before").closest("label").hidden = after || app.panel === "layers";
  $("after-alone").hidden = !after;
  if (after) state.before = false;
  const options = { talk, source, names: namesOf(talk), before: state.before, visit };
  if (app.panel === "path")
    drawChart($("chart"), { ...options, others: state.conversations, mode: app.mode });
  else if (app.panel === "space") drawSpace($("space"), { ...options, flat: app.flat });
  else drawLayers($("layers"), { ...options, picked: app.picked, reads: app.layers });
}
