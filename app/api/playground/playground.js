// The page of patchserve: sends an image to the service and draws its answer.

/** @param {string} id */
const byId = (id) => document.getElementById(id);

const TABS = ["labels", "mask", "relevance"];
const TASK = { labels: "classify", mask: "segment", relevance: "classify" };
const SMALLEST_CANVAS = 512; // pixels of the longer side; a smaller image is enlarged
const LARGEST_CANVAS = 1600;
const HISTORY_S = 120;
const INFERNO = [
  [0, 0, 4],
  [33, 12, 74],
  [87, 16, 110],
  [138, 34, 106],
  [188, 55, 84],
  [228, 90, 49],
  [249, 142, 9],
  [249, 203, 53],
  [252, 255, 164],
];

// State: each part below changes only its own members

const state = {
  status: null, // the last answer of GET status
  connected: true,
  history: [], // traffic between two polls, oldest first
  tab: null,
  codeTab: "curl",
  image: null, // {file, name, url, pasted, width, height, drawable, answers}
  answer: null, // of the open tab for this image: {body, text, timing, roundTrip, requestId}
  mask: null, // {width, height, segments, background, map}
  lit: null, // position in mask.segments of the highlighted region
};

// Elements and numbers

/**
 * Make an element. A string is its text, never its markup: labels come from checkpoints.
 * @param {string} tag
 * @param {object} properties of the element; `style` and `aria-...` are set as such
 * @param {...(Node|string)} children
 */
function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "style") Object.assign(made.style, value);
    else if (name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** A fraction as percentage: two decimals where one would hide what matters. */
function percent(fraction) {
  const value = 100 * fraction;
  if (value > 0 && value < 0.005) return "< 0.01 %";
  if (value < 100 && value >= 99.995) return "> 99.99 %";
  return `${value.toFixed(value < 1 || value > 99 ? 2 : 1)} %`;
}

const milliseconds = (ms) => `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
const thousands = (number) => number.toLocaleString("en");

function bytes(count) {
  if (count < 100) return `${count} B`;
  if (count < 1e6) return `${(count / 1e3).toFixed(count < 1e4 ? 1 : 0)} kB`;
  return `${(count / 1e6).toFixed(1)} MB`;
}

function announce(text) {
  byId("announcement").textContent = text;
}

// Tabs

/**
 * Let a tab list work by pointer and arrow keys.
 * @param {HTMLElement} list
 * @param {(name: string) => void} open gets the part of the tab's id after `tab-`
 * @returns {(name: string) => void} selects a tab
 */
function makeTabs(list, open) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  const select = (name) => {
    for (const tab of tabs) {
      const selected = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
    }
    open(name);
  };
  list.addEventListener("click", ({ target }) => {
    const tab = target.closest("[role=tab]");
    if (tab) select(tab.id.slice("tab-".length));
  });
  list.addEventListener("keydown", (event) => {
    const visible = tabs.filter((tab) => !tab.hidden);
    const at = visible.indexOf(document.activeElement);
    const to = {
      ArrowRight: (at + 1) % visible.length,
      ArrowLeft: (at + visible.length - 1) % visible.length,
      Home: 0,
      End: visible.length - 1,
    }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    visible[to].focus();
    select(visible[to].id.slice("tab-".length));
  });
  return select;
}

function openTab(name) {
  state.tab = name;
  for (const each of TABS) byId(`panel-${each}`).hidden = each !== name;
  byId("frame").classList.toggle("gray", name === "relevance");
  point(null);
  ask();
}

function openCodeTab(name) {
  state.codeTab = name;
  byId("code-panel").setAttribute("aria-labelledby", `tab-${name}`);
  showCode();
}

const selectTab = makeTabs(document.querySelector(".result [role=tablist]"), openTab);
const selectCodeTab = makeTabs(document.querySelector(".request [role=tablist]"), openCodeTab);

// Requests

/** A problem that the service reported, or that kept its answer from arriving. */
class Problem extends Error {
  constructor({ detail, code, request_id: requestId, retryable, retry_after_ms: retryAfterMs }) {
    super(detail);
    Object.assign(this, { code, requestId, retryable, retryAfterMs });
  }
}

/** The request of the open tab: its address, and its headers without the key. */
function describe() {
  const parameters = {
    labels: () => ({ path: "classify", query: `top_k=${byId("top-k").value}` }),
    mask: () => ({ path: "segment", query: "" }),
    relevance: () => ({ path: "explain", query: `method=${byId("method").value}` }),
  };
  const { path, query } = parameters[state.tab]();
  const url = new URL(path, document.baseURI);
  url.search = query;
  const type = state.image?.file.type ?? "";
  const headers = { "Content-Type": type.startsWith("image/") ? type : "application/octet-stream" };
  if (state.tab !== "labels") headers.Accept = "application/json"; // instead of a PNG file
  return { url: url.href, headers };
}

/**
 * Send an image.
 * @throws {Problem} the service refused it, or did not answer
 * @throws {DOMException} the request was aborted
 */
async function send({ url, headers }, { file }, signal) {
  const key = sessionStorage.getItem("key");
  const authorization = key ? { Authorization: `Bearer ${key}` } : {};
  const began = performance.now();
  let response;
  let text;
  try {
    const options = { method: "POST", body: file, headers: { ...headers, ...authorization }, signal };
    response = await fetch(url, options);
    text = await response.text();
  } catch (error) {
    if (signal.aborted) throw error;
    const detail = "The service did not answer. It may be stopped, or out of reach.";
    throw new Problem({ detail, code: "no_answer", retryable: true });
  }
  const roundTrip = performance.now() - began;
  const requestId = response.headers.get("X-Request-Id");
  if (!response.ok) throw problemOf(response, text);
  const timing = parseTiming(response.headers.get("Server-Timing") ?? "");
  return { body: parseAnswer(text), text, timing, roundTrip, requestId };
}

/** @throws {Problem} it is not JSON: another program answered, such as the login page of a proxy */
function parseAnswer(text) {
  try {
    return JSON.parse(text);
  } catch {
    const detail = "The answer is not one of this service. Is a proxy asking for a login?";
    throw new Problem({ detail, code: "not_json" });
  }
}

function problemOf(response, text) {
  try {
    return new Problem(JSON.parse(text));
  } catch {
    // a proxy between here and the service may answer in a form of its own
    const detail = `The answer has status ${response.status} and no explanation.`;
    return new Problem({ detail, code: `status_${response.status}`, retryable: response.status > 499 });
  }
}

/** What is known to fail before the image is sent. */
function refusal() {
  const { status, image } = state;
  const key = sessionStorage.getItem("key") ?? "";
  if (status.key_required && !key)
    return new Problem({ detail: "This service asks for an API key.", code: "unauthorized" });
  if (!/^[ -~]*$/.test(key))
    return new Problem({ detail: "An API key has only ASCII characters; this one has others.", code: "unauthorized" });
  const most = status.limits.max_body_bytes;
  if (image.file.size > most) {
    const detail = `The file has ${bytes(image.file.size)}; the service accepts up to ${bytes(most)}.`;
    return new Problem({ detail, code: "payload_too_large" });
  }
  return null;
}

const modelFor = (tab) => state.status?.models.find((model) => model.task === TASK[tab]);
const canAnswer = (tab) => modelFor(tab)?.status === "ready" || state.status?.ready === true;

let running = new AbortController();

/** Get the answer of the open tab for this image, from the service if it is not known yet. */
async function ask() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const { image, tab } = state;
  const request = describe();
  show(image?.answers.get(request.url) ?? null);
  if (!image) showWaiting("The answer appears here once there is an image.");
  if (!image || state.answer) return;
  if (!canAnswer(tab)) {
    showWaiting("The image is sent as soon as the model is ready.");
    return;
  }
  byId("result").setAttribute("aria-busy", "true");
  try {
    const known = refusal();
    if (known) throw known;
    const answer = await send(request, image, signal);
    image.answers.set(request.url, answer);
    show(answer);
    announce(summary());
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    showProblem(error, signal);
  }
}

/** Show the answer of the open tab, or, with null, that there is none yet. */
function show(answer) {
  state.answer = answer;
  byId("result").setAttribute("aria-busy", "false");
  byId("problem").hidden = true;
  byId("waiting").hidden = true;
  byId("model").textContent = answer?.body.model ?? "";
  showLabels(state.tab === "labels" ? answer?.body.predictions : null);
  showMask(state.tab === "mask" ? answer?.body : null);
  showRelevance(state.tab === "relevance" ? answer?.body : null);
  drawOverlay();
  showTiming(answer);
  showCode();
}

/** The answer in one sentence, for screen readers. */
function summary() {
  const { body } = state.answer;
  if (state.tab === "mask") {
    const parts = body.segments.map(({ label, fraction }) => `${label} ${percent(fraction)}`);
    return `Mask: ${parts.join(", ")}.`;
  }
  const [best] = body.predictions;
  const subject = state.tab === "labels" ? "Best label" : "Relevance shown for";
  return `${subject}: ${best.label}, ${score(best.score)}.`;
}

function showWaiting(text) {
  byId("waiting").textContent = text;
  byId("waiting").hidden = false;
}

/** Show a problem; if it may pass, try again, by itself when the service says after what time. */
function showProblem(problem, signal) {
  byId("result").setAttribute("aria-busy", "false");
  if (problem.code === "not_ready") {
    showWaiting("The model is not ready yet. The image is sent as soon as it is.");
    return; // the next poll sends it
  }
  byId("problem-text").textContent = sentence(problem.message);
  byId("problem-code").textContent = problem.code;
  byId("problem-request").textContent = problem.requestId ? `request ${problem.requestId}` : "";
  byId("retry").hidden = !problem.retryable;
  byId("retry").textContent = "Try again";
  byId("problem").hidden = false;
  announce(""); // the sentence about the answer before
  if (problem.code === "unauthorized") byId("key").focus();
  if (problem.retryable && problem.retryAfterMs) countDown(problem.retryAfterMs / 1000, signal);
}

function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}

function countDown(seconds, signal) {
  if (signal.aborted) return;
  if (seconds <= 0) {
    ask();
    return;
  }
  byId("retry").textContent = `Trying again in ${Math.ceil(seconds)} s`;
  const step = Math.min(seconds, 1);
  setTimeout(() => countDown(seconds - step, signal), 1000 * step);
}

byId("retry").addEventListener("click", ask);

// Image

/**
 * Take an image and ask for its answer.
 * @param {File} file
 * @param {string} name under which the code that is shown finds the file
 * @param {?string} url of a sample; null for an image of one's own
 * @param {boolean} pasted whether it is no file yet
 */
async function choose(file, name, url = null, pasted = false) {
  const image = { file, name, url, pasted, drawable: true, answers: new Map() };
  state.image = image;
  for (const button of byId("samples").querySelectorAll("button"))
    button.setAttribute("aria-pressed", String(button.dataset.url === url));
  byId("invitation").hidden = true;
  byId("caption").textContent = `${name}, ${bytes(file.size)}`;
  ask();
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(file); // in the orientation that EXIF gives
  } catch {
    image.drawable = false;
  }
  if (state.image === image) showImage(bitmap);
  bitmap?.close();
}

function showImage(bitmap) {
  const { image } = state;
  byId("undrawable").hidden = image.drawable;
  byId("frame").classList.toggle("empty", !image.drawable);
  if (bitmap) {
    setSize(bitmap.width, bitmap.height);
    byId("photo").getContext("2d").drawImage(bitmap, 0, 0, byId("photo").width, byId("photo").height);
  } else {
    byId("frame").hidden = !image.width;
  }
  byId("photo").setAttribute("aria-label", `The image ${image.name}`);
  drawOverlay();
}

/** Give the frame the image's ratio, and both canvases a size of the same ratio. */
function setSize(width, height) {
  Object.assign(state.image, { width, height });
  const longer = Math.max(width, height);
  const scale = Math.min(Math.ceil(SMALLEST_CANVAS / longer), LARGEST_CANVAS / longer);
  for (const canvas of [byId("photo"), byId("overlay")]) {
    canvas.width = Math.max(1, Math.round(scale * width));
    canvas.height = Math.max(1, Math.round(scale * height));
  }
  byId("frame").style.setProperty("--ratio", width / height);
  byId("frame").hidden = false;
  const { file, name } = state.image;
  byId("caption").textContent = `${name}, ${thousands(width)} × ${thousands(height)}, ${bytes(file.size)}`;
}

/** The size of an image that the browser cannot draw comes with the answer. */
function adoptSize(width, height) {
  if (!state.image.width && width > 0 && height > 0) setSize(width, height);
}

async function showSamples() {
  const response = await fetch("playground/samples");
  const { samples } = await response.json();
  byId("samples").replaceChildren(
    ...samples.map(({ name, url }) => {
      const thumbnail = element("img", { src: url, alt: "", width: 48, height: 48, loading: "lazy" });
      const properties = { type: "button", title: name, "aria-label": `Sample ${name}`, "aria-pressed": "false" };
      const button = element("button", properties, thumbnail);
      thumbnail.addEventListener("error", () => thumbnail.replaceWith(name)); // not a format of the browser
      button.dataset.url = url;
      button.addEventListener("click", () => chooseSample(name, url));
      return element("li", {}, button);
    }),
  );
}

async function chooseSample(name, url) {
  const response = await fetch(url).catch(() => null);
  if (response?.ok) choose(await response.blob(), name, url);
  else byId("caption").textContent = `The sample ${name} did not arrive.`;
}

byId("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) choose(file, file.name);
  target.value = ""; // so that the same file can be chosen again
});

window.addEventListener("paste", ({ clipboardData }) => {
  const file = [...clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (file) choose(file, `pasted-image.${file.type.slice("image/".length)}`, null, true);
});

window.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});

window.addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("dragging");
});

window.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const [file] = event.dataTransfer.files;
  if (file) choose(file, file.name);
});

// Labels

const isRegression = () => modelFor("labels")?.problem_type === "regression";

/** A score: a percentage, except of a regression, whose scores are values. */
const score = (value) => (isRegression() ? value.toPrecision(4) : percent(value));

function showLabels(predictions) {
  byId("labels").replaceChildren(
    ...(predictions ?? []).map(({ label, score: value }) => {
      const share = element("span", { className: "share", title: String(value) }, score(value));
      const width = `${100 * Math.min(Math.max(value, 0), 1)}%`;
      const bar = element("div", { className: "bar", style: { width } });
      const track = element("div", { className: "track", "aria-hidden": "true", hidden: isRegression() }, bar);
      return element("li", {}, element("span", { className: "name" }, label), share, track);
    }),
  );
}

byId("top-k").addEventListener("change", ({ target }) => {
  const most = Number(target.max) || Number.POSITIVE_INFINITY; // unknown until the model is warm
  target.value = Math.min(Math.max(Math.round(target.valueAsNumber) || 1, 1), most);
  ask();
});

// Mask

/**
 * The lengths of the runs in COCO's compressed form: off, on, off, ... down the columns.
 *
 * A character, counted from `0`, holds five bits, lowest first, and a sixth if more follow; from
 * the fourth on a length is the difference to the one two before it.
 */
function runLengths(text) {
  const lengths = [];
  for (let at = 0; at < text.length; ) {
    let value = 0;
    let shift = 0;
    let group;
    do {
      group = text.charCodeAt(at++) - 48;
      value |= (group & 0x1f) << shift;
      shift += 5;
    } while (group & 0x20);
    if (group & 0x10) value |= -1 << shift; // the sign
    lengths.push(lengths.length > 2 ? value + lengths.at(-2) : value);
  }
  return lengths;
}

/** The position in `segments` of each pixel, column by column. */
function regionMap({ width, height, segments }) {
  const map = new (segments.length > 256 ? Uint16Array : Uint8Array)(width * height);
  segments.forEach(({ rle }, position) => {
    let at = 0;
    runLengths(rle.counts).forEach((length, run) => {
      if (run % 2) map.fill(position, at, at + length);
      at += length;
    });
  });
  return map;
}

function showMask(body) {
  state.mask = null;
  state.lit = null;
  URL.revokeObjectURL(byId("download").href);
  byId("download").hidden = !body;
  byId("legend").replaceChildren();
  if (body) {
    const png = Uint8Array.from(atob(body.mask), (character) => character.charCodeAt(0));
    const { width, height, segments, background } = body;
    state.mask = { width, height, segments, background, map: regionMap(body) };
    byId("legend").append(...segments.map(legendEntry));
    byId("download").href = URL.createObjectURL(new Blob([png], { type: "image/png" }));
    byId("download").download = `${state.image.name.replace(/\.[^.]*$/, "")}.mask.png`;
    adoptSize(width, height);
  }
}

function legendEntry({ label, color, fraction, confidence }, position) {
  const button = element(
    "button",
    { type: "button" },
    element("span", { className: "swatch", style: { background: color }, title: color }),
    element("span", { className: "name" }, label),
    element("span", { className: "confidence", title: String(confidence) }, `confidence ${percent(confidence)}`),
    element("span", { className: "share", title: String(fraction) }, percent(fraction)),
  );
  for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => light(position));
  for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => light(null));
  return element("li", {}, button);
}

/** Highlight a region, in the image and in the legend. */
function light(position) {
  if (position === state.lit) return;
  state.lit = position;
  [...byId("legend").querySelectorAll("button")].forEach((button, at) => {
    button.classList.toggle("lit", at === position);
  });
  drawOverlay();
}

/** Draw the regions; a highlighted one is outlined, and the others step back. */
function drawMask(canvas, context) {
  const { width, height, segments, background, map } = state.mask;
  const picture = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(picture.data.buffer);
  const paints = segments.map(({ index, color }, position) => {
    const [red, green, blue] = color.match(/[0-9a-f]{2}/gi).map((part) => Number.parseInt(part, 16));
    const back = state.lit !== null && state.lit !== position;
    const alpha = index === background ? 0 : back ? 60 : 255;
    return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
  const columns = Array.from({ length: canvas.width }, (_, x) => Math.floor((x * width) / canvas.width) * height);
  const rows = Array.from({ length: canvas.height }, (_, y) => Math.floor((y * height) / canvas.height));
  const [right, bottom] = [canvas.width - 1, canvas.height - 1];
  const regionAt = (x, y) => map[columns[x] + rows[y]];
  const isEdge = (x, y) =>
    regionAt(Math.max(x - 2, 0), y) !== state.lit ||
    regionAt(Math.min(x + 2, right), y) !== state.lit ||
    regionAt(x, Math.max(y - 2, 0)) !== state.lit ||
    regionAt(x, Math.min(y + 2, bottom)) !== state.lit;
  for (let y = 0; y <= bottom; y++) {
    for (let x = 0; x <= right; x++) {
      const region = regionAt(x, y);
      pixels[y * canvas.width + x] = region === state.lit && isEdge(x, y) ? 0xffffffff : paints[region];
    }
  }
  context.putImageData(picture, 0, 0);
}

// Relevance

function showRelevance(body) {
  byId("relevance").hidden = !body;
  if (!body) return;
  const [best] = body.predictions;
  byId("explained").replaceChildren(
    "Relevance for the label ",
    element("strong", {}, best.label),
    `, ${score(best.score)}`,
  );
  const cells = body.relevance.flat();
  const highest = Math.max(...cells);
  byId("strongest").textContent =
    `${body.relevance.length} × ${body.relevance[0].length} cells; the most relevant one has ${percent(highest)} of the relevance.`;
  // a centred crop has the same margin on both sides
  const [x, y, width, height] = body.box;
  if (x > 0 || y > 0) byId("strongest").append(" The network sees only the bright part of the image.");
  adoptSize(Math.round(width + 2 * x), Math.round(height + 2 * y));
}

/** Draw the grid, smoothed, in the colours of a heat map; black where the network saw nothing. */
function drawRelevance(canvas, context) {
  const { relevance, box } = state.answer.body;
  const cells = relevance.flat();
  const lowest = Math.min(...cells);
  const range = Math.max(...cells) - lowest || 1;
  const grid = new OffscreenCanvas(relevance[0].length, relevance.length);
  const picture = new ImageData(grid.width, grid.height);
  cells.forEach((cell, at) => {
    picture.data.fill((255 * (cell - lowest)) / range, 4 * at, 4 * at + 3);
    picture.data[4 * at + 3] = 255;
  });
  grid.getContext("2d").putImageData(picture, 0, 0);
  const scale = canvas.width / state.image.width;
  context.imageSmoothingQuality = "high";
  context.drawImage(grid, ...box.map((value) => scale * value));
  const heat = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < heat.data.length; at += 4) heat.data.set(inferno(heat.data[at]), at);
  context.putImageData(heat, 0, 0);
}

const COLORS = Array.from({ length: 256 }, (_, value) => {
  const place = (value / 255) * (INFERNO.length - 1);
  const below = Math.min(Math.floor(place), INFERNO.length - 2);
  return [0, 1, 2]
    .map((k) => INFERNO[below][k] + (place - below) * (INFERNO[below + 1][k] - INFERNO[below][k]))
    .concat(255);
});
const inferno = (value) => COLORS[value];

byId("method").addEventListener("change", ask);

// What lies over the image

function drawOverlay() {
  const canvas = byId("overlay");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!state.image?.width || !state.answer) return;
  if (state.tab === "mask") drawMask(canvas, context);
  if (state.tab === "relevance") drawRelevance(canvas, context);
  setOpacity();
}

function setOpacity() {
  const slider = byId(`${state.tab}-opacity`);
  if (slider) byId("overlay").style.opacity = slider.value / 100;
}

for (const tab of ["mask", "relevance"]) byId(`${tab}-opacity`).addEventListener("input", setOpacity);

/** Name what lies under a point of the image, given as fractions of its sides; null: no point. */
function point(place) {
  let text = "";
  if (state.tab === "mask" && state.mask) {
    const { width, height, segments, map } = state.mask;
    const region = place && map[Math.floor(place.x * width) * height + Math.floor(place.y * height)];
    light(region);
    if (place) text = `${segments[region].label}, ${percent(segments[region].fraction)}`;
  } else if (state.tab === "relevance" && state.answer && place) {
    const { relevance, box } = state.answer.body;
    const row = Math.floor(((place.y * state.image.height - box[1]) / box[3]) * relevance.length);
    const column = Math.floor(((place.x * state.image.width - box[0]) / box[2]) * relevance[0].length);
    const cell = relevance[row]?.[column];
    text = cell === undefined ? "outside of what the network saw" : `${percent(cell)} of the relevance`;
  }
  byId("pointed").textContent = text;
}

for (const event of ["pointermove", "pointerdown"]) {
  byId("frame").addEventListener(event, ({ clientX, clientY }) => {
    const { left, top, width, height } = byId("frame").getBoundingClientRect();
    const [x, y] = [(clientX - left) / width, (clientY - top) / height];
    point(x >= 0 && x < 1 && y >= 0 && y < 1 ? { x, y } : null);
  });
}

byId("frame").addEventListener("pointerleave", ({ pointerType }) => {
  if (pointerType !== "touch") point(null); // a finger leaves after each tap
});

// Time

/** The stages of a Server-Timing header, in milliseconds, and the batch size. */
function parseTiming(header) {
  const stages = [...header.matchAll(/(\w+);dur=([\d.]+)/g)].map(([, name, ms]) => ({ name, ms: Number(ms) }));
  return { stages, batch: Number(header.match(/batch;desc="(\d+)"/)?.[1] ?? 0) };
}

const STAGES = {
  read: "read the body",
  decode: "decode",
  queue: "queue",
  stage_in: "copy to the device",
  compute: "compute",
  postprocess: "reduce",
  encode: "encode",
  network: "network and browser",
};

function showTiming(answer) {
  byId("timing").hidden = !answer;
  if (!answer) return;
  const { stages, batch } = answer.timing;
  const inside = stages.reduce((sum, { ms }) => sum + ms, 0);
  const names = Object.keys(STAGES);
  const parts = [...stages, { name: "network", ms: Math.max(answer.roundTrip - inside, 0) }];
  parts.sort((one, other) => names.indexOf(one.name) - names.indexOf(other.name));
  const total = inside + parts.at(-1).ms;
  byId("round-trip").textContent = `${milliseconds(answer.roundTrip)} round trip`;
  byId("batch").textContent = `in a batch of ${batch} · request ${answer.requestId}`;
  const background = (name) => `var(--${name}, var(--network))`;
  byId("timing-bar").replaceChildren(
    ...parts.map(({ name, ms }) => element("div", { style: { flexGrow: ms / total, background: background(name) } })),
  );
  byId("timing-rows").replaceChildren(
    ...parts.map(({ name, ms }) => {
      const swatch = element("span", { className: "swatch", style: { background: background(name) } });
      const heading = element("th", { scope: "row" }, swatch, STAGES[name] ?? name);
      const cells = [milliseconds(ms), percent(ms / total)].map((text) => element("td", {}, text));
      return element("tr", {}, heading, ...cells);
    }),
  );
}

// Code

const quoteForShell = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** What the code examples are made of; without an image they name one. */
function example() {
  const { url, headers } = describe();
  const sample = state.image?.url ? new URL(state.image.url, document.baseURI).href : null;
  const name = state.image?.name ?? "photo.jpg";
  const file = name.startsWith("-") ? `./${name}` : name; // curl reads @- from its input
  return { url, headers: Object.entries(headers), sample, file, key: state.status?.key_required };
}

const CODE = {
  curl() {
    const { url, headers, sample, file, key } = example();
    const fetched = sample ? [`curl -o ${quoteForShell(file)} ${quoteForShell(sample)}`] : [];
    const options = headers.map(([name, value]) => `-H ${quoteForShell(`${name}: ${value}`)}`);
    if (key) options.push('-H "Authorization: Bearer $API_KEY"');
    const request = [`curl ${quoteForShell(url)}`, ...options, `--data-binary ${quoteForShell(`@${file}`)}`];
    return [...fetched, request.join(" \\\n  ")].join("\n");
  },

  python() {
    const { url, headers, sample, file, key } = example();
    const source = sample
      ? `requests.get(${JSON.stringify(sample)}).content`
      : `Path(${JSON.stringify(file)}).read_bytes()`;
    const lines = headers.map(([name, value]) => `        "${name}": ${JSON.stringify(value)},\n`);
    if (key) lines.push(`        "Authorization": f"Bearer {os.environ['API_KEY']}",\n`);
    return `${key ? "import os\n" : ""}${sample ? "" : "from pathlib import Path\n"}
import requests

image = ${source}
response = requests.post(
    ${JSON.stringify(url)},
    data=image,
    headers={
${lines.join("")}    },
    timeout=60,
)
response.raise_for_status()
print(response.json())`.trimStart();
  },

  javascript() {
    const { url, headers, sample, file, key } = example();
    const source = sample
      ? `await (await fetch(${JSON.stringify(sample)})).blob()`
      : `await readFile(${JSON.stringify(file)})`;
    const lines = headers.map(([name, value]) => `    "${name}": ${JSON.stringify(value)},\n`);
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the placeholder is part of the example
    if (key) lines.push("    Authorization: `Bearer ${process.env.API_KEY}`,\n");
    return `${sample ? "" : 'import { readFile } from "node:fs/promises";\n\n'}const image = ${source};
const response = await fetch(${JSON.stringify(url)}, {
  method: "POST",
  headers: {
${lines.join("")}  },
  body: image,
});
if (!response.ok) throw new Error(await response.text());
console.log(await response.json());`;
  },

  answer: () => (state.answer ? brief(state.answer.body) : "There is no answer yet."),
};

/** JSON for reading: long strings and lists are cut, and lists of numbers stay on one line. */
function brief(value, indent = "") {
  const inner = `${indent}  `;
  if (typeof value === "string" && value.length > 90)
    return `${JSON.stringify(value.slice(0, 60)).slice(0, -1)}…" (${thousands(value.length)} characters)`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (!Array.isArray(value)) {
    const members = Object.entries(value).map(([name, member]) => `${inner}"${name}": ${brief(member, inner)}`);
    return `{\n${members.join(",\n")}\n${indent}}`;
  }
  const flat = value.every((item) => item === null || typeof item !== "object");
  const parts = value.slice(0, 10).map((item) => brief(item, inner));
  if (value.length > parts.length) parts.push(`… ${value.length - parts.length} more`);
  return flat ? `[${parts.join(", ")}]` : `[\n${parts.map((part) => inner + part).join(",\n")}\n${indent}]`;
}

function showCode() {
  const comment = { curl: "#", python: "#", javascript: "//" }[state.codeTab];
  const note = comment && state.image?.pasted ? `${comment} save the pasted image as ${state.image.name}\n` : "";
  byId("code").textContent = note + CODE[state.codeTab]();
}

/** Copy the code, or the whole answer as it came. */
async function copy() {
  const text = state.codeTab === "answer" && state.answer ? state.answer.text : byId("code").textContent;
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copied = copyBySelection(text); // without TLS browsers have no clipboard, except on localhost
  }
  byId("copy").textContent = copied ? "Copied" : "Not allowed";
  announce(copied ? "Copied." : "The browser does not allow copying.");
  setTimeout(() => {
    byId("copy").textContent = "Copy";
  }, 2000);
}

function copyBySelection(text) {
  const area = element("textarea", { value: text, className: "unseen" });
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  byId("copy").focus();
  return copied;
}

byId("copy").addEventListener("click", copy);

// Status

let timer;

/** Ask for the status, again and again while the page is visible. */
async function poll() {
  clearTimeout(timer);
  const status = await getStatus();
  state.connected = status !== null;
  if (status) takeStatus(status);
  showReadiness();
  clearTimeout(timer); // another poll may have begun meanwhile
  if (!document.hidden) timer = setTimeout(poll, state.connected && state.status.ready ? 2000 : 1000);
}

/** The state of the service; null if it does not answer. */
async function getStatus() {
  try {
    const response = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

function takeStatus(status) {
  const before = state.status;
  const waited = state.image && !byId("waiting").hidden;
  state.status = status;
  takeTraffic(before, status);
  showModels(status);
  byId("version").textContent = status.version;
  byId("key-form").hidden = !status.key_required;
  const available = TABS.filter((tab) => modelFor(tab));
  for (const tab of TABS) byId(`tab-${tab}`).hidden = !available.includes(tab);
  limitTopK();
  if (!available.includes(state.tab)) selectTab(available[0]);
  else if (waited && canAnswer(state.tab)) ask();
  if (before?.key_required !== status.key_required) showCode();
}

/** A classifier with fewer labels cannot give as many. */
function limitTopK() {
  const most = modelFor("labels")?.labels;
  const field = byId("top-k");
  if (!most || field.max === String(most)) return;
  field.max = most;
  if (field.valueAsNumber > most) {
    field.value = most;
    showCode();
  }
}

/** The state of the service in a word, and if it is not ready, in a notice. */
function showReadiness() {
  const { status, connected } = state;
  const failed = status?.models.some((model) => model.status === "failed");
  const loading = status?.models.some((model) => !["ready", "failed"].includes(model.status));
  const [name, word, title] = !connected
    ? ["lost", "No connection", "The connection to the service is lost"]
    : status.ready
      ? ["ready", "Ready", ""]
      : loading && !failed
        ? ["warming", "Warming up", "Warming up"]
        : ["unavailable", "Not ready", "The service is not ready"];
  byId("readiness").dataset.state = name;
  byId("readiness").textContent = word;
  byId("notice").hidden = name === "ready";
  byId("notice-title").textContent = title;
  const explanation = {
    lost: "This page tries again every second, and goes on by itself.",
    warming: "The models are loaded and measured. An image can be chosen already; it is sent when they are ready.",
    unavailable: sentence(status?.reasons.join("; ") || "No reason is given"),
  }[name];
  if (byId("notice-text").textContent !== (explanation ?? "")) byId("notice-text").textContent = explanation ?? "";
  byId("progress").hidden = name !== "warming";
  byId("progress").value = status?.progress ?? 0;
  const models = name === "warming" ? status.models : [];
  byId("notice-models").replaceChildren(
    ...models.map((model) => element("li", {}, `${model.name}: ${model.status.replace("_", " ")}`)),
  );
}

/** One card for each model; members of a model that is not loaded are null, and left out. */
function showModels({ models }) {
  const facts = (model) => [
    ["Task", model.task],
    ["Status", model.status.replace("_", " ")],
    ["Device", model.device],
    ["Number format", model.dtype],
    ["Runtime", model.runtime],
    ["Parameters", model.parameters && thousands(model.parameters)],
    ["Input", model.input_size?.join(" × ")],
    ["Labels", model.labels && thousands(model.labels)],
    ["Batch limit", model.max_batch_size],
  ];
  byId("models").replaceChildren(
    ...models.map((model) => {
      const known = facts(model).filter(([, value]) => value);
      const list = known.map(([name, value]) =>
        element("div", {}, element("dt", {}, name), element("dd", {}, String(value))),
      );
      return element("article", {}, element("h3", {}, model.name), element("dl", {}, ...list));
    }),
  );
}

byId("key").addEventListener("input", ({ target }) => sessionStorage.setItem("key", target.value.trim()));

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});

// Traffic

/** Keep what happened between two polls; a service that has restarted begins anew. */
function takeTraffic(before, after) {
  const seconds = after.time - before?.time;
  if (!before || seconds < 0 || after.traffic.requests < before.traffic.requests) state.history = [];
  else if (seconds > 0) state.history.push(rates(before.traffic, after.traffic, seconds, after.time));
  state.history = state.history.filter(({ time }) => after.time - time <= HISTORY_S);
  showTraffic(after.time);
}

function rates(before, after, seconds, time) {
  const counts = after.latency.counts.map((count, at) => count - before.latency.counts[at]);
  const batches = after.batches - before.batches;
  return {
    time,
    requests: (after.requests - before.requests) / seconds,
    p50: quantile(after.latency.le, counts, 0.5),
    p99: quantile(after.latency.le, counts, 0.99),
    batch: batches > 0 ? (after.batched_images - before.batched_images) / batches : null,
    queue: after.queue_depth,
  };
}

/**
 * A quantile of a histogram in milliseconds, on a straight line within its bucket; null if it is
 * empty.
 * @param {(?number)[]} bounds upper bounds in seconds; null: no bound
 * @param {number[]} counts of values up to each bound
 */
function quantile(bounds, counts, fraction) {
  const rank = fraction * counts.at(-1);
  if (!rank) return null;
  const at = counts.findIndex((count) => count >= rank);
  const [lower, below] = at ? [bounds[at - 1], counts[at - 1]] : [0, 0];
  const upper = bounds[at] ?? lower;
  return 1000 * (lower + ((upper - lower) * (rank - below)) / (counts[at] - below));
}

const SERIES = [
  ["requests", "Requests per second", (value) => value.toFixed(1)],
  ["p50", "Latency, median", milliseconds],
  ["p99", "Latency, 99th percentile", milliseconds],
  ["batch", "Mean batch", (value) => value.toFixed(1)],
  ["queue", "In the queue", (value) => String(value)],
];

function showTraffic(now) {
  byId("traffic").replaceChildren(
    ...SERIES.map(([name, title, format]) => {
      const points = state.history.filter((each) => each[name] !== null);
      const last = points.at(-1)?.[name];
      const value = element("dd", {}, last === undefined ? "–" : format(last));
      value.append(
        sparkline(
          points.map((each) => [each.time, each[name]]),
          now,
        ),
      );
      return element("div", {}, element("dt", {}, title), value);
    }),
  );
}

/** A line through [time, value] pairs, from two minutes ago until now. */
function sparkline(points, now) {
  const make = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const highest = Math.max(...points.map(([, value]) => value), Number.MIN_VALUE);
  const place = ([time, value]) =>
    `${(100 * (1 - (now - time) / HISTORY_S)).toFixed(2)},${(30 - (28 * value) / highest).toFixed(2)}`;
  const svg = make("svg", { viewBox: "0 0 100 32", preserveAspectRatio: "none", "aria-hidden": "true" });
  const line = points.length > 1 ? points : [...points, ...points];
  svg.append(make("polyline", { points: line.map(place).join(" ") }));
  return svg;
}

// Start

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) poll();
});

byId("key").value = sessionStorage.getItem("key") ?? "";
state.tab = TABS[0];
selectCodeTab(state.codeTab);
selectTab(state.tab);
showSamples();
poll();
