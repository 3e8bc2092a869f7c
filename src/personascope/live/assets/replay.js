// A conversation that was recorded or saved, shown again token by token, with no model behind it.

import { $, app, say } from "./app.js";
import { draw, panels } from "./draw.js";
import { conversation, newReply } from "./state.js";

const TICK = 40;
const PAUSE = 700;

const sleep = (time) => new Promise((done) => { setTimeout(done, time); });

/** Play the conversation that is shown from its beginning; stopping it shows the rest at once. */
export async function replay() {
  const talk = conversation();
  const whole = talk.turns;
  const control = new AbortController();
  app.running = control;
  app.picked = null;
  // Who asks for less motion gets a turn at a time.
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  talk.turns = [];
  say("The conversation is replayed.");
  try {
    for (const turn of whole) {
      if (control.signal.aborted) break;
      await play(talk, turn, control.signal, still);
    }
  } finally {
    talk.turns = whole;
    app.running = null;
    draw();
  }
  say(control.signal.aborted ? "The whole conversation is shown." : "The replay has ended.");
}

async function play(talk, turn, signal, still) {
  const number = talk.turns.push({ user: turn.user, replies: [newReply(), newReply()] }) - 1;
  draw();
  const { node, replies: views } = app.views[number];
  node.scrollIntoView({ block: "nearest" });
  const longest = Math.max(...turn.replies.map((reply) => reply.tokens.length));
  for (const view of views) view.busy(true);
  for (let at = 0; at < longest && !signal.aborted && !still; at += 1) {
    turn.replies.forEach((reply, column) => {
      if (at >= reply.tokens.length) return;
      talk.turns[number].replies[column].tokens.push(reply.tokens[at]);
      views[column].add([reply.tokens[at]]);
    });
    if (at % 4 === 0) panels();
    if (at % 20 === 0 && scrollY + innerHeight > $("turns").getBoundingClientRect().bottom + scrollY - 60)
      node.scrollIntoView({ block: "nearest" });
    await sleep(TICK);
  }
  talk.turns[number] = turn;
  draw();
  if (!signal.aborted) await sleep(PAUSE);
}
