// The page: it connects to the server, or shows what was saved in it, and ties every button.

import * as api from "./api.js";
import { $, app, canAsk, say, warn } from "./app.js";
import { tieCompare } from "./compare.js";
import { firstColumns, tieSettings } from "./controls.js";
import { buttons, draw, panels } from "./draw.js";
import { offerRecordings, openRecording, take, takeLink, tieFiles } from "./files.js";
import { replay } from "./replay.js";
import { canUndo, conversation, forget, newConversation, remember, settings, state, undo } from "./state.js";
import { ask, branch, edit, queue, stop } from "./talk.js";
import { tieTour } from "./tour.js";
import { hideTip } from "./view.js";

function askKey() {
  $("keyform").hidden = false;
  $("key").focus();
}

async function connect() {
  try {
    const about = await api.about();
    const space = about.map?.space ? await api.space() : null;
    app.about = { ...about, space };
  } catch (error) {
    if (error.status === 401) askKey();
    else warn(`The server cannot be reached: ${error.message}`);
    return;
  }
  const { about } = app;
  $("keyform").hidden = true;
  $("model").textContent = `${about.model} · ${about.dtype} · ${about.engine}`;
  document.title = `${about.model} · personascope`;
  firstColumns(about);
  queue.push(...takeLink(location.hash));
  draw();
  if (queue.length) {
    $("message").value = queue.shift();
    say("The link's messages are ready to be sent.");
  }
  try {
    await offerRecordings();
  } catch (error) {
    warn(`The recorded conversations cannot be listed: ${error.message}`);
  }
}

/** Show the conversation that this document was saved with. */
function openSaved(node) {
  app.offline = true;
  document.documentElement.classList.add("saved");
  try {
    take(JSON.parse(node.textContent));
    forget();
    buttons();
  } catch (error) {
    warn(`What was saved in this page cannot be read: ${error.message}`);
    draw();
    return;
  }
  const { model } = conversation().source;
  $("model").textContent = `${model} · saved, with no model behind it`;
  document.title = `${model} · personascope`;
}

function takeBack() {
  if (!canUndo()) return;
  undo();
  app.picked = null;
  draw();
  say("Taken back.");
}

function theme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", String(dark));
}

function tieAsking() {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("message").value;
    if (!canAsk() || app.running || !text.trim()) return;
    remember();
    $("message").value = "";
    ask(text);
  });
  $("message").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("ask").requestSubmit();
    }
  });
  for (const id of ["stop", "halt"]) $(id).addEventListener("click", stop);
  $("undo").addEventListener("click", takeBack);
  $("replay").addEventListener("click", replay);
  $("new").addEventListener("click", () => {
    remember();
    // A conversation of another model has settings that may not fit this one.
    const like = canAsk() ? settings() : null;
    const made = newConversation(like ?? newConversation(settings()).settings);
    state.current = state.conversations.push(made) - 1;
    if (!like) firstColumns(app.about);
    draw();
    $("message").focus();
  });
  $("keyform").addEventListener("submit", (event) => {
    event.preventDefault();
    api.useKey($("key").value);
    connect();
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey && event.key.toLowerCase() === "z" && !$("undo").disabled) $("undo").click();
  });
}

function tiePanels() {
  const names = ["path", "space", "layers"];
  names.forEach((name, number) => {
    $(`tab-${name}`).addEventListener("click", () => {
      app.panel = name;
      panels();
    });
    $(`tab-${name}`).addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = $(`tab-${names[(number + step + names.length) % names.length]}`);
      next.click();
      next.focus();
    });
  });
  $("before").addEventListener("change", (event) => {
    state.before = event.target.checked;
    for (const view of app.views) for (const reply of view.replies) {
      reply.retint();
      reply.drawMeta();
    }
    panels();
  });
  const choices = [
    ["by-turn", "by-token", (first) => { app.mode = first ? "turn" : "token"; }],
    ["flat", "deep", (first) => { app.flat = first; }],
  ];
  for (const [one, other, set] of choices) for (const id of [one, other]) $(id).addEventListener("click", () => {
    set(id === one);
    $(one).setAttribute("aria-pressed", String(id === one));
    $(other).setAttribute("aria-pressed", String(id === other));
    panels();
  });
  $("read-layers").addEventListener("change", (event) => { app.layers = event.target.checked; });
}

if (matchMedia("(max-width: 62rem)").matches) $("settings").open = false;
theme(matchMedia("(prefers-color-scheme: dark)").matches);
$("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme !== "dark"));
addEventListener("scroll", hideTip, { passive: true });
Object.assign(app.acts, { edit, branch, replay, askKey });
const data = $("saved");
app.offline = data !== null;
tieSettings();
tieAsking();
tiePanels();
tieFiles();
tieCompare();
tieTour(() => openRecording("lighthouse.json"));
if (data) openSaved(data);
else connect();
