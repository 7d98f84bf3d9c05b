"use strict";
// The page of `/`: asks /v1/sample and shows the answers as they grow. What models write is only ever set as text.
const $ = (id) => document.getElementById(id);
let running = null;

function body() {
  const sources = [...document.querySelectorAll("#sources input:checked")].map((box) => box.value);
  const asked = {
    messages: [{ role: "user", content: $("prompt").value }],
    domain: $("domain").value,
    sources,
    n: Number($("n").value),
  };
  if ($("max_tokens").value) asked.sampling = { max_tokens: Number($("max_tokens").value) };
  if ($("score").checked) asked.score = true;
  if ($("gold").value.trim()) asked.verify = { gold: $("gold").value.trim() };
  return asked;
}

function headers() {
  const found = { "Content-Type": "application/json" };
  if ($("key").value) found.Authorization = `Bearer ${$("key").value}`;
  return found;
}

const url = (path) => new URL(path, document.baseURI).href;
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function asCurl() {
  const key = $("key").value ? ` -H "Authorization: Bearer $FUSECHAT_KEY"` : "";
  return `curl -s ${quoted(url("v1/sample"))} -H 'Content-Type: application/json'${key} -d ${quoted(JSON.stringify(body()))}`;
}

function asPython() {
  const key = $("key").value ? `, headers={"Authorization": f"Bearer {os.environ['FUSECHAT_KEY']}"}` : "";
  const text = JSON.stringify(JSON.stringify(body()));  // a JSON string is a Python string too
  return [
    "import json", ...($("key").value ? ["import os"] : []), "", "import httpx", "",
    `asked = json.loads(${text})`,
    `reply = httpx.post(${JSON.stringify(url("v1/sample"))}, json=asked${key}, timeout=600)`,
    "for sample in reply.json()[\"samples\"]:",
    "    print(sample[\"source\"], sample[\"reward\"], sample[\"text\"], sep=\"\\n\")",
  ].join("\n");
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    $("status").textContent = "copied";
  } catch (error) {
    window.prompt("Copy:", text);
  }
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function card(cards, id, source) {
  if (!cards.has(id)) {
    const made = element("article");
    made.append(element("h2", source), element("pre", ""), element("footer", "writing"));
    $("answers").append(made);
    cards.set(id, made);
  }
  return cards.get(id);
}

function finished(made, sample) {
  made.querySelector("h2").textContent = sample.source;
  made.querySelector("pre").textContent = sample.text || (sample.reject ? `no answer: ${sample.reject}` : "(empty)");
  const foot = made.querySelector("footer");
  foot.replaceChildren();
  if (sample.reward !== null) foot.append(element("span", `reward ${sample.reward.toFixed(4)}`, "reward"));
  if (sample.reward_reject) foot.append(element("span", `not scored: ${sample.reward_reject}`, "problem"));
  if (sample.verdict) {
    const kind = sample.correct === true ? "verdict right" : sample.correct === false ? "verdict wrong" : "verdict";
    foot.append(element("span", sample.verdict, kind));
  }
  foot.append(
    element("span", `${sample.completion_tokens} tokens`), element("span", sample.finish_reason),
    element("span", sample.stored ? "from the run's store" : `seed ${sample.seed}`),
    element("span", sample.response_id.slice(0, 12)),
  );
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const lines = rest.slice(0, end).split("\n");
      rest = rest.slice(end + 2);
      const kind = lines.find((l) => l.startsWith("event: "));
      const data = lines.find((l) => l.startsWith("data: "));
      if (kind && data) yield [kind.slice(7), JSON.parse(data.slice(6))];
    }
  }
}

async function send(submitted) {
  submitted.preventDefault();
  const cards = new Map();
  $("answers").replaceChildren();
  running = new AbortController();
  $("send").disabled = true;
  $("stop").disabled = false;
  $("status").textContent = "asking";
  try {
    const response = await fetch("v1/sample", {
      method: "POST", headers: headers(), signal: running.signal,
      body: JSON.stringify({ ...body(), stream: true, deltas: true }),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const [kind, data] of events(response)) {
      if (kind === "delta") card(cards, data.response_id, "").querySelector("pre").textContent += data.delta;
      if (kind === "sample") finished(card(cards, data.response_id, data.source), data);
      if (kind === "error") $("answers").append(element("article", `${data.source}: ${data.message}`, "problem"));
      if (kind === "done") {
        for (const id of data.ranking) $("answers").append(cards.get(id));
        $("status").textContent = `${data.ranking.length} answers`;
      }
    }
  } catch (error) {
    $("status").textContent = error.name === "AbortError" ? "stopped" : error.message;
  } finally {
    $("send").disabled = false;
    $("stop").disabled = true;
  }
}

async function start() {
  const response = await fetch("ready");
  const { models } = await response.json();
  for (const [name, model] of Object.entries(models)) {
    if (model.kind !== "source") continue;
    const label = element("label");
    const box = element("input");
    Object.assign(box, { type: "checkbox", value: name, checked: true });
    label.append(box, ` ${name} `, element("span", model.state, "state"));
    $("sources").append(label);
  }
}

$("form").addEventListener("submit", send);
$("stop").addEventListener("click", () => running?.abort());
$("curl").addEventListener("click", () => copy(asCurl()));
$("python").addEventListener("click", () => copy(asPython()));
start();
