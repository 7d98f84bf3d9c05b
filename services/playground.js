"use strict";
// The playground (`/`): calls /v1/sample and shows the answers as they are generated. Model output is only set as text,
// never as HTML.
const $ = (id) => document.getElementById(id);
let running = null;

function body() {
  const sources = [...document.querySelectorAll("#sources input:checked")].map((box) => box.value);
  const request = {
    messages: [{ role: "user", content: $("prompt").value }],
    domain: $("domain").value,
    sources,
    n: Number($("n").value),
  };
  if ($("max_tokens").value) request.sampling = { max_tokens: Number($("max_tokens").value) };
  if ($("score").checked) request.score = true;
  if ($("gold").value.trim()) request.verify = { gold: $("gold").value.trim() };
  return request;
}

function headers() {
  const fields = { "Content-Type": "application/json" };
  if ($("key").value) fields.Authorization = `Bearer ${$("key").value}`;
  return fields;
}

const url = (path) => new URL(path, document.baseURI).href;
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function asCurl() {
  const key = $("key").value ? ` -H "Authorization: Bearer $FUSECHAT_KEY"` : "";
  return `curl -s ${quoted(url("v1/sample"))} -H 'Content-Type: application/json'${key} -d ${quoted(JSON.stringify(body()))}`;
}

function asPython() {
  const key = $("key").value ? `, headers={"Authorization": f"Bearer {os.environ['FUSECHAT_KEY']}"}` : "";
  const text = JSON.stringify(JSON.stringify(body()));  // a JSON string is also a Python string
  return [
    "import json", ...($("key").value ? ["import os"] : []), "", "import httpx", "",
    `request = json.loads(${text})`,
    `reply = httpx.post(${JSON.stringify(url("v1/sample"))}, json=request${key}, timeout=600)`,
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
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
}

function card(cards, id, source) {
  if (!cards.has(id)) {
    const article = element("article");
    article.append(element("h2", source), element("pre", ""), element("footer", "generating"));
    $("answers").append(article);
    cards.set(id, article);
  }
  return cards.get(id);
}

function showSample(article, sample) {
  article.querySelector("h2").textContent = sample.source;
  article.querySelector("pre").textContent = sample.text || (sample.reject ? `no answer: ${sample.reject}` : "(empty)");
  const foot = article.querySelector("footer");
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
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const lines = buffer.slice(0, end).split("\n");
      buffer = buffer.slice(end + 2);
      const kind = lines.find((l) => l.startsWith("event: "));
      const data = lines.find((l) => l.startsWith("data: "));
      if (kind && data) yield [kind.slice(7), JSON.parse(data.slice(6))];
    }
  }
}

async function send(event) {
  event.preventDefault();
  const cards = new Map();
  $("answers").replaceChildren();
  running = new AbortController();
  $("send").disabled = true;
  $("stop").disabled = false;
  $("status").textContent = "sampling";
  try {
    const response = await fetch("v1/sample", {
      method: "POST", headers: headers(), signal: running.signal,
      body: JSON.stringify({ ...body(), stream: true, deltas: true }),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const [kind, data] of events(response)) {
      if (kind === "delta") card(cards, data.response_id, "").querySelector("pre").textContent += data.delta;
      if (kind === "sample") showSample(card(cards, data.response_id, data.source), data);
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
