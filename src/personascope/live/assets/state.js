// The page's state: settings, conversations, what can be undone; and reading it from a file or link, where
// nothing is taken that is not of the expected type.

const FORMAT = "personascope page 1";
const MOST_UNDO = 30;

export function newColumn(kind) {
  return { kind, plan: "", percentile: 75, from: 0, to: 1, strength: -0.2 };
}

export const state = {
  columns: [newColumn("none"), newColumn("none")],
  temperature: 0.7,
  seed: 0,
  tokens: 160,
  system: "",
  conversations: [{ turns: [] }],
  current: 0,
  before: false,
};

const undone = [];

export function conversation() {
  return state.conversations[state.current];
}

/** Keep what is there now, so that the change that follows can be taken back. */
export function remember() {
  undone.push(JSON.stringify({ conversations: state.conversations, current: state.current }));
  if (undone.length > MOST_UNDO) undone.shift();
}

export function canUndo() {
  return undone.length > 0;
}

export function undo() {
  if (undone.length) Object.assign(state, JSON.parse(undone.pop()));
}

export function newReply() {
  return {
    text: "", thinking: "", tokens: [], answer: null, plan: null, name: "", seed: null, share: null,
    finish: "", error: "", alarm: null,
  };
}

/** Return the messages that a column has seen, up to a turn, and its user message. */
export function messages(turns, column, upTo) {
  const found = state.system.trim() ? [{ role: "system", content: state.system }] : [];
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
  if (column.kind === "steer") return { steer: column.strength };
  return column.kind === "plan" ? column.plan : null;
}

/** Return the request of a column at a turn. */
export function requestBody(column, model, turn, turns = conversation().turns) {
  return {
    model,
    messages: messages(turns, column, turn),
    temperature: state.temperature,
    max_tokens: state.tokens,
    // The same in both columns, and another at every turn.
    seed: state.seed + turn,
    personascope: { plan: planOf(state.columns[column]) },
  };
}

export function saved() {
  return { format: FORMAT, ...state };
}

const text = (value, most = 1e6) => (typeof value === "string" ? value.slice(0, most) : "");
const number = (value, low, high, otherwise) =>
  typeof value === "number" && Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : otherwise;
const list = (value) => (Array.isArray(value) ? value : []);
const whole = (value, low, high, otherwise) => Math.round(number(value, low, high, otherwise));

function readColumn(value) {
  const kind = ["none", "plan", "cap", "steer"].includes(value?.kind) ? value.kind : "none";
  return {
    kind,
    plan: text(value?.plan, 200),
    percentile: number(value?.percentile, 0, 100, 75),
    from: whole(value?.from, 0, 10000, 0),
    to: whole(value?.to, 1, 10000, 1),
    strength: number(value?.strength, -10, 10, -0.2),
  };
}

function readPlace(value) {
  if (!value || typeof value.position !== "number") return null;
  return {
    position: number(value.position, -1e9, 1e9, null),
    before: number(value.before, -1e9, 1e9, null),
    percentile: number(value.percentile, 0, 100, null),
    tokens: whole(value.tokens, 0, 1e9, 0),
  };
}

function readReply(value) {
  return {
    ...newReply(),
    text: text(value?.text),
    thinking: text(value?.thinking),
    tokens: list(value?.tokens).map((one) => ({
      text: text(one?.text, 1000),
      part: text(one?.part, 20),
      position: number(one?.position, -1e9, 1e9, null),
      before: number(one?.before, -1e9, 1e9, null),
      percentile: number(one?.percentile, 0, 100, null),
    })),
    answer: readPlace(value?.answer),
    plan: text(value?.plan, 64) || null,
    name: text(value?.name, 200),
    seed: number(value?.seed, 0, 2 ** 63, null),
    share: number(value?.share, 0, 1, null),
    finish: text(value?.finish, 20),
    error: text(value?.error, 2000),
    alarm: number(value?.alarm, -1, 1e9, null),
  };
}

/** Take a state that a file or a link holds; return whether it is one. */
export function load(value) {
  if (value?.format !== FORMAT) return false;
  remember();
  const conversations = list(value.conversations).slice(0, 200).map((one) => ({
    turns: list(one?.turns).slice(0, 2000).map((turn) => ({
      user: text(turn?.user),
      replies: [readReply(turn?.replies?.[0]), readReply(turn?.replies?.[1])],
    })),
  }));
  Object.assign(state, {
    columns: [readColumn(value.columns?.[0]), readColumn(value.columns?.[1])],
    temperature: number(value.temperature, 0, 2, 0.7),
    seed: whole(value.seed, 0, Number.MAX_SAFE_INTEGER, 0),
    tokens: whole(value.tokens, 1, 100000, 160),
    system: text(value.system, 1e5),
    conversations: conversations.length ? conversations : [{ turns: [] }],
    current: whole(value.current, 0, Math.max(0, conversations.length - 1), 0),
    before: value.before === true,
  });
  return true;
}

/** Return the settings and the user's messages as the end of a link; replies follow from the seed. */
export function toLink() {
  const { conversations, current, ...settings } = saved();
  const asked = conversations[current].turns.map((turn) => turn.user);
  const bytes = new TextEncoder().encode(JSON.stringify({ ...settings, asked }));
  let raw = "";
  for (const byte of bytes) raw += String.fromCharCode(byte);
  return `#s=${btoa(raw).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

/** Take the settings of a link; return the user's messages, or null if it is none. */
export function fromLink(hash) {
  if (!hash.startsWith("#s=")) return null;
  try {
    const raw = atob(hash.slice(3).replaceAll("-", "+").replaceAll("_", "/"));
    const value = JSON.parse(new TextDecoder().decode(Uint8Array.from(raw, (c) => c.charCodeAt(0))));
    if (!load({ ...value, conversations: [] })) return null;
    return list(value.asked).slice(0, 200).map((one) => text(one)).filter(Boolean);
  } catch (error) {
    console.info("the link holds no state:", error.message);
    return null;
  }
}
