// A column as a plan, and as a request that a terminal or a program can send.

import { planOf } from "./state.js";

/** Return the value of a request's plan: an inline plan, or a digest. */
export function planText(column) {
  return JSON.stringify(planOf(column));
}

/** Quote a text for a POSIX shell. */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

export function curlOf(body) {
  return [
    `curl ${location.origin}/v1/chat/completions`,
    "-H 'Content-Type: application/json'",
    '-H "Authorization: Bearer $VLLM_API_KEY"',
    `-d ${quoted(JSON.stringify(body))}`,
  ].join(" \\\n  ");
}

/** Write a JSON value in Python. */
function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object")
    return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one)}`).join(", ")}}`;
  // A JSON text with every other character escaped is one of Python too.
  return typeof value === "string" ? escaped(value) : String(value);
}

function escaped(text) {
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`)
    .replace(/\\u(d[89ab]..)\\u(d[c-f]..)/g, (_, high, low) => {
      const point = (parseInt(high, 16) - 0xd800) * 0x400 + parseInt(low, 16) - 0xdc00 + 0x10000;
      return `\\U${point.toString(16).padStart(8, "0")}`;
    });
}

export function pythonOf({ personascope, messages, ...options }) {
  const named = Object.entries(options).map(([name, value]) => `    ${name}=${literal(value)},`);
  return [
    "import os",
    "",
    "import openai",
    "",
    `client = openai.OpenAI(base_url=${literal(`${location.origin}/v1`)}, api_key=os.environ.get("VLLM_API_KEY", "none"))`,
    "reply = client.chat.completions.create(",
    ...named,
    "    messages=[",
    ...messages.map((one) => `        ${literal(one)},`),
    "    ],",
    `    extra_body={"personascope": ${literal(personascope)}},`,
    ")",
    "print(reply.choices[0].message.content)",
    'print(reply.personascope["answer"])',
    "",
  ].join("\n");
}
