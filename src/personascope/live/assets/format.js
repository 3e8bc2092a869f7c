// The file that the page saves and opens: typed, with a version, and read strictly. What is not of the expected
// type is an error that names its place, so that a bad file changes nothing and is never half taken.

export const FORMAT = "personascope live";
export const VERSION = 2;

/** An error of a file, with the place of what is wrong in it. */
export class FormatError extends Error {}

const MOST = { conversations: 200, turns: 2000, tokens: 200000, layers: 1000, roles: 5000, text: 2000000 };

function brief(value) {
  const written = JSON.stringify(value) ?? String(value);
  return written.length > 40 ? `${written.slice(0, 40)}…` : written;
}

/** A value of a file and its place. */
class Field {
  constructor(value, place) {
    this.value = value;
    this.place = place;
  }

  wrong(wanted) {
    throw new FormatError(`${this.place} is ${brief(this.value)}, and should be ${wanted}`);
  }

  /** Return a field of an object. */
  get(name) {
    if (this.value === null || typeof this.value !== "object" || Array.isArray(this.value)) this.wrong("an object");
    const known = Object.hasOwn(this.value, name);
    return new Field(known ? this.value[name] : undefined, this.place ? `${this.place}.${name}` : name);
  }

  text(most = MOST.text) {
    if (typeof this.value !== "string" || this.value.length > most) this.wrong("a text");
    return this.value;
  }

  number(low = -1e30, high = 1e30) {
    const { value } = this;
    if (typeof value !== "number" || !Number.isFinite(value) || value < low || value > high)
      this.wrong(`a number from ${low} to ${high}`);
    return value;
  }

  whole(low, high) {
    if (!Number.isInteger(this.number(low, high))) this.wrong("a whole number");
    return this.value;
  }

  flag() {
    if (typeof this.value !== "boolean") this.wrong("true or false");
    return this.value;
  }

  one(...known) {
    if (!known.includes(this.value)) this.wrong(`one of ${known.join(", ")}`);
    return this.value;
  }

  /** Return what a function makes of each entry of a list. */
  list(make, most) {
    if (!Array.isArray(this.value) || this.value.length > most) this.wrong(`a list of at most ${most}`);
    return this.value.map((value, at) => make(new Field(value, `${this.place}[${at}]`)));
  }

  /** Return what a function makes of the value; null or nothing stays null. */
  maybe(make) {
    return this.value === null || this.value === undefined ? null : make(this);
  }
}

const aNumber = (field) => field.number();
const aNumberOrNone = (field) => field.maybe(aNumber);
const numbers = (most) => (field) => field.list(aNumberOrNone, most);

function readPlace(field) {
  return {
    position: field.get("position").number(),
    before: field.get("before").maybe(aNumber),
    percentile: field.get("percentile").maybe((one) => one.number(0, 100)),
    tokens: field.get("tokens").whole(0, 1e9),
    space: field.get("space").maybe(numbers(3)),
    space_before: field.get("space_before").maybe(numbers(3)),
    layers: field.get("layers").maybe(numbers(MOST.layers)),
    layers_before: field.get("layers_before").maybe(numbers(MOST.layers)),
  };
}

const COLUMNS = {
  text: (field) => field.text(10000),
  part: (field) => field.text(20),
  position: aNumberOrNone,
  before: aNumberOrNone,
  percentile: aNumberOrNone,
  layers: (field) => field.maybe(numbers(MOST.layers)),
  layers_before: (field) => field.maybe(numbers(MOST.layers)),
};

/** Read tokens: a list for each column, all as long as the first. */
function readTokens(field) {
  const found = {};
  for (const [name, read] of Object.entries(COLUMNS)) {
    const column = field.get(name);
    if (name.startsWith("layers") && column.value === undefined) continue;
    found[name] = column.list(read, MOST.tokens);
    if (found[name].length !== found.text.length) column.wrong(`as long as text (${found.text.length})`);
  }
  return found.text.map((_, at) => Object.fromEntries(Object.entries(found).map(([name, all]) => [name, all[at]])));
}

function writeTokens(tokens) {
  const names = Object.keys(COLUMNS).filter((name) => !name.startsWith("layers") || tokens.some((one) => one[name]));
  return Object.fromEntries(names.map((name) => [name, tokens.map((one) => one[name] ?? null)]));
}

const near = (field) => field.list(
  (one) => ({ name: one.get("name").text(200), cosine: one.get("cosine").number(-1.01, 1.01) }), 100,
);

function readReply(field) {
  return {
    text: field.get("text").text(),
    thinking: field.get("thinking").text(),
    tokens: readTokens(field.get("tokens")),
    answer: field.get("answer").maybe(readPlace),
    nearest: field.get("nearest").maybe((one) => ({
      roles: near(one.get("roles")), traits: near(one.get("traits")),
    })),
    plan: field.get("plan").maybe((one) => one.text(64)),
    name: field.get("name").text(1000),
    seed: field.get("seed").maybe((one) => one.whole(-(2 ** 63), 2 ** 63)),
    share: field.get("share").maybe((one) => one.number(0, 1)),
    finish: field.get("finish").text(100),
    error: field.get("error").text(10000),
    alarm: field.get("alarm").maybe((one) => one.whole(-1, 1e9)),
  };
}

function readColumn(field) {
  return {
    kind: field.get("kind").one("none", "plan", "cap", "steer"),
    plan: field.get("plan").text(200),
    percentile: field.get("percentile").number(0, 100),
    from: field.get("from").whole(0, 10000),
    to: field.get("to").whole(1, 10001),
    strength: field.get("strength").number(-100, 100),
    layer: field.get("layer").maybe((one) => one.whole(0, 10000)),
  };
}

function two(field, make) {
  const found = field.list(make, 2);
  if (found.length !== 2) field.wrong("a list of two");
  return found;
}

function readSettings(field) {
  return {
    columns: two(field.get("columns"), readColumn),
    temperature: field.get("temperature").number(0, 2),
    seed: field.get("seed").whole(0, Number.MAX_SAFE_INTEGER),
    tokens: field.get("tokens").whole(1, 100000),
    system: field.get("system").text(100000),
  };
}

/** Read settings that a link holds. */
export function readLinkSettings(value) {
  return readSettings(new Field(value, "settings"));
}

const percentiles = (field) => {
  const found = {};
  for (const name of Object.keys(field.value ?? {})) found[name] = field.get(name).number();
  return found;
};

function readMap(field) {
  const projections = (one) => ({
    mean_role: one.get("mean_role").number(), default: one.get("default").number(),
  });
  return {
    layer: field.get("layer").whole(0, 10000),
    digest: field.get("digest").text(64),
    projections: field.get("projections").maybe(projections),
    layers: field.get("layers").maybe((one) => one.list((at) => at.whole(0, 10000), MOST.layers)),
    role_percentiles: field.get("role_percentiles").maybe(percentiles),
    default_percentiles: field.get("default_percentiles").maybe(percentiles),
  };
}

function readSpace(field) {
  const at = numbers(3);
  return {
    layer: field.get("layer").whole(0, 10000),
    variance: field.get("variance").list(aNumberOrNone, 3),
    roles: field.get("roles").list((one) => ({
      name: one.get("name").text(200), at: at(one.get("at")), position: one.get("position").maybe(aNumber),
    }), MOST.roles),
    default: at(field.get("default")),
    axis: at(field.get("axis")),
    traits: field.get("traits").list((one) => one.text(200), MOST.roles),
  };
}

const readMonitor = (field) => ({
  rule: field.get("rule").text(40),
  level: field.get("level").text(40),
  limit: field.get("limit").maybe(aNumber),
});

/** Read what replies are of: the model, the map and its space. */
function readSource(field) {
  const provenance = (one) => Object.fromEntries(
    Object.keys(one.value).slice(0, 50).map((name) => [name.slice(0, 100), String(one.value[name]).slice(0, 1000)]),
  );
  return {
    model: field.get("model").text(1000),
    engine: field.get("engine").text(100),
    dtype: field.get("dtype").text(100),
    n_layers: field.get("n_layers").whole(1, 10000),
    map: field.get("map").maybe(readMap),
    space: field.get("space").maybe(readSpace),
    monitor: field.get("monitor").maybe(readMonitor),
    provenance: field.get("provenance").maybe(provenance),
  };
}

/** Read a saved page; return its conversations, each with its source, and which was shown. */
export function read(value) {
  const file = new Field(value, "");
  if (value?.format === "personascope page 1") throw new FormatError("it was saved by an earlier version of this page");
  if (value === null || typeof value !== "object" || value.format !== FORMAT)
    throw new FormatError("it is not a file that this page saved");
  if (value.version !== VERSION)
    throw new FormatError(`it has version ${brief(value.version)} of the format, and this page reads ${VERSION}`);
  const sources = file.get("sources").list(readSource, MOST.conversations);
  const conversations = file.get("conversations").list((one) => {
    const at = one.get("source").whole(0, Math.max(0, sources.length - 1));
    if (!sources.length) one.get("source").wrong("the number of a source");
    return {
      title: one.get("title").text(200),
      kind: one.get("kind").one("live", "recorded", "compared"),
      note: one.get("note").text(2000),
      names: two(one.get("names"), (name) => name.text(1000)),
      source: sources[at],
      settings: readSettings(one.get("settings")),
      turns: one.get("turns").list((turn) => ({
        user: turn.get("user").text(), replies: two(turn.get("replies"), readReply),
      }), MOST.turns),
    };
  }, MOST.conversations);
  if (!conversations.length) file.get("conversations").wrong("a list with a conversation");
  return { conversations, current: file.get("current").whole(0, conversations.length - 1) };
}

/** Write conversations; `sourceOf` and `namesOf` say what those of this page are of. */
export function write(conversations, current, sourceOf, namesOf, saved = new Date()) {
  const sources = [];
  const written = conversations.map((talk) => {
    const source = sourceOf(talk);
    let at = sources.indexOf(source);
    if (at < 0) at = sources.push(source) - 1;
    return {
      title: talk.title,
      kind: talk.kind,
      note: talk.note,
      names: namesOf(talk),
      source: at,
      settings: talk.settings,
      turns: talk.turns.map((turn) => ({
        user: turn.user,
        replies: turn.replies.map((reply) => ({ ...reply, tokens: writeTokens(reply.tokens) })),
      })),
    };
  });
  const kept = sources.map(({ model, engine, dtype, n_layers, map, space, monitor, provenance }) => ({
    model, engine, dtype, n_layers, map, space: space ?? null, monitor: monitor ?? null,
    provenance: provenance ?? null,
  }));
  const head = { format: FORMAT, version: VERSION, saved: saved.toISOString() };
  return { ...head, sources: kept, conversations: written, current };
}
