// A conversation with the model: the two streams of a turn, and what can be done with a turn.

import * as api from "./api.js";
import { $, app, canAsk, namesOf, say, warn } from "./app.js";
import { buttons, draw, panels } from "./draw.js";
import { signed } from "./scale.js";
import { conversation, copyTalk, newReply, remember, requestBody, state } from "./state.js";

/** Messages that are still to be sent, one after the other. */
export const queue = [];

export function edit(number, text) {
  if (app.running || !canAsk()) return;
  remember();
  conversation().turns.length = number;
  ask(text);
}

export function branch(number) {
  remember();
  const copied = copyTalk(conversation());
  copied.turns.length = number + 1;
  copied.title = `${copied.title || copied.turns[0].user.slice(0, 30)} (branch)`;
  state.current = state.conversations.push(copied) - 1;
  draw();
  say(`Branched after message ${number + 1}.`);
  if (canAsk()) $("message").focus();
}

/** Ask both columns the same message at once. */
export async function ask(text) {
  const talk = conversation();
  const number = talk.turns.length;
  talk.turns.push({ user: text, replies: [newReply(), newReply()] });
  app.running = new AbortController();
  app.picked = null;
  warn("");
  const near = scrollY + innerHeight > document.body.scrollHeight - 200;
  draw();
  say("Both replies are being written.");
  if (near) app.views[number].node.scrollIntoView({ block: "nearest" });
  await Promise.all([0, 1].map((column) => answer(talk, number, column, app.running.signal)));
  app.running = null;
  await watch(talk);
  draw();
  const told = talk.turns[number].replies.map(
    (reply, column) => `${namesOf(talk)[column]}: ${reply.error || signed(reply.answer?.position)}`,
  );
  say(`Done. Positions: ${told.join(", ")}.`);
  if (queue.length) await ask(queue.shift());
}

async function answer(talk, number, column, signal) {
  const reply = talk.turns[number].replies[column];
  const view = app.views[number].replies[column];
  const more = app.about.map
    ? { ...(app.about.space ? { space: true } : {}), ...(app.layers && app.about.reads.layers ? { layers: true } : {}) } : {};
  view.busy(true);
  let due = false;
  try {
    for await (const chunk of api.stream(requestBody(column, app.about.model, number, talk, more), signal)) {
      take(reply, view, chunk);
      if (!due) {
        due = true;
        requestAnimationFrame(() => {
          due = false;
          panels();
        });
      }
    }
  } catch (error) {
    if (signal.aborted) reply.finish = "stopped";
    else reply.error = error.message;
    if (error.status === 401) app.acts.askKey();
  }
  view.busy(false);
  view.drawMeta();
}

/** Add a chunk of a stream to a reply. */
function take(reply, view, chunk) {
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
    const { plan, seed, answer: whole, nearest } = told;
    Object.assign(reply, { plan, seed, name: told.plan_name ?? "", answer: whole ?? null, nearest: nearest ?? null });
    reply.share = told.firing?.share ?? null;
    partThinking(reply);
  }
}

/** Keep the thinking out of the text, which vLLM without a parser of reasoning sends as one. */
function partThinking(reply) {
  if (reply.thinking || !reply.tokens.some((one) => one.part === "thinking")) return;
  const of = (thinks) => reply.tokens.filter((one) => (one.part === "thinking") === thinks).map((one) => one.text).join("");
  Object.assign(reply, { thinking: of(true), text: of(false) });
}

/** Ask the monitor about both columns, and mark its alarms. */
async function watch(talk) {
  if (!app.about.monitor) return;
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

/** End what is being written. */
export function stop() {
  queue.length = 0;
  app.running?.abort();
  buttons();
}
