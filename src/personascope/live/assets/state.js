// The page's state: conversations, each with its settings, what can be undone, and links.

const MOST_UNDO = 30;
const LINK = "personascope live 2";

export function newColumn(kind) {
  return { kind, plan: "", percentile: 75, from: 0, to: 1, strength: -0.2, layer: null };
}

export function newSettings() {
  const columns = [newColumn("none"), newColumn("none")];
  return { columns, temperature: 0.7, seed: 0, tokens: 160, system: "" };
}

/** Return a conversation without turns, of what the server serves. */
export function newConversation(settings) {
  return { title: "", kind: "live", note: "", names: null, source: null, settings: copyOf(settings), turns: [] };
}

export const state = { conversations: [newConversation(newSettings())], current: 0, before: false };

const undone = [];

/** Return a copy that shares nothing but the source, which never changes. */
export function copyOf(value) {
  return JSON.parse(JSON.stringify(value));
}

export function copyTalk(talk) {
  return { ...copyOf({ ...talk, source: null }), source: talk.source };
}

export function conversation() {
  return state.conversations[state.current];
}

export function settings() {
  return conversation().settings;
}

/** Keep what is there now, so that the change that follows can be taken back. */
export function remember() {
  undone.push({ conversations: state.conversations.map(copyTalk), current: state.current });
  if (undone.length > MOST_UNDO) undone.shift();
}

export function canUndo() {
  return undone.length > 0;
}

/** Drop all that could be taken back. */
export function forget() {
  undone.length = 0;
}

export function undo() {
  if (undone.length) Object.assign(state, undone.pop());
}

/** Show another conversation beside those that are there. */
export function show(talk) {
  const empty = state.conversations.findIndex((one) => !one.turns.length && one.kind === "live" && !one.title);
  // A conversation without a turn has nothing to lose.
  if (empty >= 0 && state.conversations.length === 1) state.conversations.splice(empty, 1);
  state.current = state.conversations.push(talk) - 1;
}

export function newReply() {
  return {
    text: "", thinking: "", tokens: [], answer: null, nearest: null, plan: null, name: "", seed: null, share: null,
    finish: "", error: "", alarm: null,
  };
}

/** Return the messages that a column has seen, up to a turn, and its user message. */
export function messages(talk, column, upTo) {
  const { turns, settings: { system } } = talk;
  const found = system.trim() ? [{ role: "system", content: system }] : [];
  for (const turn of turns.slice(0, upTo)) {
    found.push({ role: "user", content: turn.user });
    found.push({ role: "assistant", content: turn.replies[column].text });
  }
  found.push({ role: "user", content: turns[upTo].user });
  return found;
}

/** Return the plan of a column as a request writes it. */
export function planOf(column) {
  if (column.kind === "cap") return { cap: { percentile: column.percentile, layers: [column.from, column.to] } };
  if (column.kind === "steer") {
    const { strength, layer } = column;
    return { steer: layer === null ? strength : { strength, layer } };
  }
  return column.kind === "plan" ? column.plan : null;
}

/** Return the request of a column at a turn; `more` are further fields of ours. */
export function requestBody(column, model, turn, talk = conversation(), more = {}) {
  const { columns, temperature, seed, tokens } = talk.settings;
  return {
    model,
    messages: messages(talk, column, turn),
    temperature,
    max_tokens: tokens,
    // The same in both columns, and another at every turn.
    seed: seed + turn,
    personascope: { plan: planOf(columns[column]), ...more },
  };
}

/** Return the settings and the user's messages as the end of a link; replies follow from the seed. */
export function toLink() {
  const talk = conversation();
  const asked = talk.turns.map((turn) => turn.user);
  const bytes = new TextEncoder().encode(JSON.stringify({ format: LINK, settings: talk.settings, asked }));
  let raw = "";
  for (const byte of bytes) raw += String.fromCharCode(byte);
  return `#s=${btoa(raw).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

/** Return what a link holds, unread; null if it is none, an error if it is damaged. */
export function fromLink(hash) {
  if (!hash.startsWith("#s=")) return null;
  const raw = atob(hash.slice(3).replaceAll("-", "+").replaceAll("_", "/"));
  const value = JSON.parse(new TextDecoder().decode(Uint8Array.from(raw, (c) => c.charCodeAt(0))));
  if (value?.format !== LINK || !Array.isArray(value.asked)) throw new Error("it holds no conversation");
  if (!value.asked.every((one) => typeof one === "string")) throw new Error("a message in it is no text");
  return value;
}
