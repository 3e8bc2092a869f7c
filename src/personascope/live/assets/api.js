// What the page asks of the server: what is served, two streams at once, and the monitor.

let key = "";

/** Set the key that the server asks for; it is kept in memory alone. */
export function useKey(given) {
  key = given;
}

export class HttpError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, options = {}) {
  const headers = { ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  if (options.body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  let message = `the server answered ${answer.status}`;
  try {
    const value = await answer.json();
    if (typeof value?.error?.message === "string") message = value.error.message;
  } catch {
    // A proxy may answer with a page of its own; its status says enough.
    message += " without a reason";
  }
  throw new HttpError(answer.status, message);
}

export async function about() {
  return (await call("/v1/personascope/about")).json();
}

/** Return the persona space, which a server has if its map says so. */
export async function space() {
  return (await call("/v1/personascope/space")).json();
}

/** Return the text of a file of the page. */
export async function page(name) {
  return (await call(`/page/${name}`)).text();
}

/** Ask the monitor about the token positions of each reply of a conversation. */
export async function watch(replies) {
  return (await call("/v1/personascope/monitor", { method: "POST", body: JSON.stringify({ replies }) })).json();
}

/** Yield the chunks of a streamed reply. */
export async function* stream(body, signal) {
  const asked = JSON.stringify({ ...body, stream: true });
  const answer = await call("/v1/chat/completions", { method: "POST", body: asked, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new HttpError(0, "the connection ended before the reply did");
    rest += value;
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: ")) continue;
      if (event === "data: [DONE]") return;
      const chunk = JSON.parse(event.slice(6));
      if (chunk.error) throw new HttpError(chunk.error.code, chunk.error.message);
      yield chunk;
    }
  }
}
