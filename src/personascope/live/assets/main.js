// The page: what its buttons do, and the two streams of a turn.

import * as api from "./api.js";
import { drawChart } from "./chart.js";
import { columnName, drawPickers, drawSettings, firstColumns, tieSettings } from "./controls.js";
import { drawLegend, make, signed } from "./scale.js";
import {
  canUndo, conversation, fromLink, load, newReply, remember, requestBody, saved, state, toLink, undo,
} from "./state.js";
import { hideTip, ReplyView, userView } from "./view.js";

const $ = (id) => document.getElementById(id);
let about = null;
let running = null;
let mode = "turn";
let views = [];
let queue = [];

const names = () => state.columns.map((column) => columnName(column, about));
const say = (text) => { $("status").textContent = text; };

function warn(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

/** Draw everything anew from the state. */
function draw() {
  hideTip();
  drawColumns();
  drawSettings();
  $("tabs").replaceChildren(...state.conversations.map(tab));
  views = conversation().turns.map((turn, number) => drawTurn(turn, number));
  $("turns").replaceChildren(...views.map((view) => view.node));
  $("empty").hidden = conversation().turns.length > 0;
  $("heads").hidden = !$("empty").hidden;
  buttons();
  chart();
}

/** Draw what the columns are set to; replies that are being written stay as they are. */
function drawColumns() {
  const label = document.activeElement?.getAttribute("aria-label");
  drawPickers($("pickers"), about, { changed: drawColumns, tuned: drawHeads, copied: copy });
  if (label) [...$("pickers").querySelectorAll("select")].find((one) => one.ariaLabel === label)?.focus();
  drawHeads();
}

function drawHeads() {
  $("heads").replaceChildren(...names().map((name, column) => make("div", `head col${column}`, name)));
}

function buttons() {
  $("send").hidden = running !== null;
  $("stop").hidden = running === null;
  $("undo").disabled = running !== null || !canUndo();
  const others = document.querySelectorAll(".acts button, #new, #open, #tabs button");
  for (const node of others) node.disabled = running !== null;
}

function chart() {
  const options = { conversations: state.conversations, current: state.current, mode, before: state.before };
  drawChart($("chart"), { ...options, about, names: names(), visit });
}

function tab(talk, number) {
  const button = make("button", "", talk.turns[0]?.user.slice(0, 40) || `Conversation ${number + 1}`);
  button.type = "button";
  button.setAttribute("aria-pressed", String(number === state.current));
  button.addEventListener("click", () => {
    state.current = number;
    draw();
  });
  return button;
}

function drawTurn(turn, number) {
  const node = make("section", "turn");
  node.setAttribute("aria-label", `Turn ${number + 1}`);
  const pair = make("div", "pair2");
  const replies = turn.replies.map((reply, column) => new ReplyView(reply, column, names()[column]));
  pair.append(...replies.map((view) => view.node));
  const again = () => edit(number, turn.user);
  const acts = { edit: (text) => edit(number, text), branch: () => branch(number), again };
  node.append(userView(turn, number, acts), pair);
  return { node, replies };
}

function visit(turn, column) {
  const node = views[turn].replies[column].node;
  node.scrollIntoView({ block: "center" });
  node.focus({ preventScroll: true });
  node.classList.add("flash");
  setTimeout(() => node.classList.remove("flash"), 1200);
}

function edit(number, text) {
  if (running) return;
  remember();
  conversation().turns.length = number;
  ask(text);
}

function branch(number) {
  remember();
  const copied = JSON.parse(JSON.stringify(conversation().turns.slice(0, number + 1)));
  state.conversations.push({ turns: copied });
  state.current = state.conversations.length - 1;
  draw();
  say(`Branched after message ${number + 1}.`);
  $("message").focus();
}

/** Ask both columns the same message at once. */
async function ask(text) {
  const talk = conversation();
  const number = talk.turns.length;
  talk.turns.push({ user: text, replies: [newReply(), newReply()] });
  running = new AbortController();
  warn("");
  draw();
  say("Both replies are being written.");
  const near = scrollY + innerHeight > document.body.scrollHeight - 200;
  if (near) views[number].node.scrollIntoView({ block: "nearest" });
  await Promise.all([0, 1].map((column) => answer(talk, number, column, running.signal)));
  running = null;
  await watch(talk);
  draw();
  const told = talk.turns[number].replies.map(
    (reply, column) => `${names()[column]}: ${reply.error || signed(reply.answer?.position)}`,
  );
  say(`Done. Positions: ${told.join(", ")}.`);
  if (queue.length) await ask(queue.shift());
}

async function answer(talk, number, column, signal) {
  const reply = talk.turns[number].replies[column];
  const view = views[number].replies[column];
  view.busy(true);
  let due = false;
  try {
    for await (const chunk of api.stream(requestBody(column, about.model, number), signal)) {
      const told = chunk.personascope ?? {};
      const choice = chunk.choices[0];
      const content = choice?.delta.content ?? "";
      const thinking = choice?.delta.reasoning ?? "";
      reply.text += content;
      reply.thinking += thinking;
      if (choice?.finish_reason) reply.finish = choice.finish_reason;
      if (Array.isArray(told.tokens)) {
        reply.tokens.push(...told.tokens);
        view.add(told.tokens);
      } else view.addText(content, thinking);
      if ("plan" in told) {
        const { plan, seed, answer: whole } = told;
        Object.assign(reply, { plan, seed, name: told.plan_name ?? "", answer: whole ?? null });
        reply.share = told.firing?.share ?? null;
      }
      if (!due) {
        due = true;
        requestAnimationFrame(() => {
          due = false;
          chart();
        });
      }
    }
  } catch (error) {
    if (signal.aborted) reply.finish = "stopped";
    else reply.error = error.message;
    if (error.status === 401) askKey();
  }
  view.busy(false);
  view.drawMeta();
}

/** Ask the monitor about both columns, and mark its alarms. */
async function watch(talk) {
  if (!about.monitor) return;
  for (const column of [0, 1]) {
    const replies = talk.turns.map((turn) => turn.replies[column]);
    const positions = replies.map((reply) =>
      reply.tokens.filter((one) => one.part === "answer").map((one) => one.position).filter(Number.isFinite));
    try {
      const found = await api.watch(positions);
      // A monitor of turns reads whole replies, and names no token.
      const at = (alarm) => (alarm !== null && found.level === "turn" ? -1 : alarm);
      found.replies.forEach((one, turn) => { replies[turn].alarm = at(one.alarm); });
    } catch (error) {
      warn(`The monitor did not answer: ${error.message}`);
    }
  }
}

function download(name, value) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(value, null, 1)], { type: "application/json" }));
  const anchor = make("a");
  Object.assign(anchor, { href: url, download: name });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    // A page that is not served over TLS has no clipboard.
    warn(`Copy this by hand:\n${text}`);
  }
}

function exported() {
  const columns = [0, 1].map((column) => ({
    name: names()[column],
    messages: conversation().turns.flatMap((turn) => [
      { role: "user", content: turn.user },
      { role: "assistant", content: turn.replies[column].text, personascope: turn.replies[column] },
    ]),
  }));
  return { model: about.model, map: about.map, system: state.system, temperature: state.temperature, columns };
}

function askKey() {
  $("keyform").hidden = false;
  $("key").focus();
}

async function connect() {
  try {
    about = await api.about();
  } catch (error) {
    if (error.status === 401) askKey();
    else warn(`The server cannot be reached: ${error.message}`);
    return;
  }
  $("keyform").hidden = true;
  $("model").textContent = `${about.model} · ${about.dtype} · ${about.engine}`;
  document.title = `${about.model} · personascope`;
  if (about.map) drawLegend($("legend"), about.map.layer);
  firstColumns(about);
  queue = fromLink(location.hash) ?? [];
  draw();
  if (queue.length) {
    $("message").value = queue.shift();
    say("The link's messages are ready to be sent.");
  }
}

function theme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", String(dark));
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("message").value;
  if (!about || running || !text.trim()) return;
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
$("stop").addEventListener("click", () => {
  queue = [];
  running?.abort();
});
$("undo").addEventListener("click", () => {
  undo();
  draw();
  say("Taken back.");
});
$("new").addEventListener("click", () => {
  remember();
  state.conversations.push({ turns: [] });
  state.current = state.conversations.length - 1;
  draw();
  $("message").focus();
});
$("keyform").addEventListener("submit", (event) => {
  event.preventDefault();
  api.useKey($("key").value);
  connect();
});
$("export").addEventListener("click", () => about && download("conversation.json", exported()));
$("save").addEventListener("click", () => download("personascope-page.json", saved()));
$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  $("file").value = "";
  if (!file) return;
  try {
    if (!load(JSON.parse(await file.text()))) throw new Error("it is not a saved page");
    draw();
    warn("");
  } catch (error) {
    warn(`${file.name} cannot be opened: ${error.message}`);
  }
});
$("link").addEventListener("click", () => copy(location.origin + location.pathname + toLink()));
$("before").addEventListener("change", (event) => {
  state.before = event.target.checked;
  for (const view of views) for (const reply of view.replies) {
    reply.retint();
    reply.drawMeta();
  }
  chart();
});
for (const kind of ["turn", "token"]) $(`by-${kind}`).addEventListener("click", () => {
  mode = kind;
  for (const other of ["turn", "token"]) $(`by-${other}`).setAttribute("aria-pressed", String(other === kind));
  if (about) chart();
});
$("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme !== "dark"));
document.addEventListener("keydown", (event) => {
  if (event.altKey && event.key.toLowerCase() === "z" && !$("undo").disabled) $("undo").click();
});
addEventListener("scroll", hideTip, { passive: true });

if (matchMedia("(max-width: 62rem)").matches) $("settings").open = false;
theme(matchMedia("(prefers-color-scheme: dark)").matches);
tieSettings();
connect();
