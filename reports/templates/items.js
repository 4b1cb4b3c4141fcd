/* The items: unpacked from the page, filtered, sorted, listed a screenful at a time. Every text of a benchmark becomes a text node and
   nothing else. The layout of the data is described in salad_eval/report/pack.py. */
(() => {
const block = document.getElementById("item-data");
if (!block) return;
const NONE = 0xFFFFFFFF, RIGHT = 200;
const $ = id => document.getElementById(id);
const list = $("list"), space = $("space"), detail = $("detail"), count = $("count");
const FIELDS = ["task", "domain", "voice", "condition", "cause"], OF_ITEM = new Set(["task", "domain"]);
let T;  // the table

const make = (name, props = {}, ...children) => {
  const { attributes, ...plain } = props;
  const node = Object.assign(document.createElement(name), plain);
  for (const [key, value] of Object.entries(attributes ?? {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
};

/* --- the data */

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}
async function unpack() {
  const bytes = bytesOf(block.textContent);
  block.remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const table = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const padded = n => n + (8 - n % 8) % 8;
  let at = padded(4 + length);
  for (const [name, kind, n] of table.arrays) {
    const Kind = globalThis[kind];
    table[name] = new Kind(buffer, at, n);
    at = padded(at + n * Kind.BYTES_PER_ELEMENT);
  }
  table.texts = new TextDecoder().decode(new Uint8Array(buffer, at)).split("\0");
  for (const [name, values] of table.fields) {  // fields of the items that this report is sliced by
    const field = `field.${name}`;
    FIELDS.push(field);
    OF_ITEM.add(field);
    table.names[field] = values;
    table[`item.${field}`] = table[field];
  }
  table.places = Object.fromEntries(FIELDS.map(field => [field, new Map(table.names[field].map((name, k) => [name, k]))]));
  return table;
}
const textAt = place => place === NONE ? null : T.texts[place];
const itemOf = row => T["row.item"][row];
const itemText = (item, k) => T.texts[T["item.text"][3 * item + k]];
const codeOf = (field, row) => OF_ITEM.has(field) ? T[`item.${field}`][itemOf(row)] : T[`row.${field}`][row];
const nameOf = (field, row) => T.names[field][codeOf(field, row)];
const indexIn = (column, row) => T.columns.find(([name]) => name === column)[1] === "item" ? itemOf(row) : row;
const valueIn = (column, row) => T[`${column}.value`][indexIn(column, row)];
const werOf = row => T["row.words"][row] ? T["row.errors"][row] / T["row.words"][row] : NaN;
const partsOf = row => {
  const parts = [];
  for (let k = T["part.start"][row]; k < T["part.start"][row + 1]; k++) {
    const n = T.sound_bytes, hash = [...T["part.sound"].subarray(k * n, (k + 1) * n)].map(b => b.toString(16).padStart(2, "0")).join("");
    parts.push({ name: textAt(T["part.text"][3 * k]), said: textAt(T["part.text"][3 * k + 1]), heard: textAt(T["part.text"][3 * k + 2]), hash });
  }
  return parts;
};
const optionsOf = item => Array.from({ length: T["option.start"][item + 1] - T["option.start"][item] },
  (_, k) => T.texts[T["option.text"][T["option.start"][item] + k]]);
const goldsOf = item => new Set(T["gold.option"].subarray(T["gold.start"][item], T["gold.start"][item + 1]));
const saidOf = row => {
  for (let k = T["part.start"][row]; k < T["part.start"][row + 1]; k++) { const text = textAt(T["part.text"][3 * k + 1]); if (text) return text; }
  return itemText(itemOf(row), 1);
};

/* --- the state, which lives in the address */

const state = {};
const controls = () => [...FIELDS, "wrong", "q", "sort"], keys = () => [...controls(), "open", "in"];
let order = [], chosen = -1;  // rows that are shown, in their order; the row whose detail is shown

function readHash() {
  const [page, query = ""] = location.hash.slice(1).split("?");
  if (page !== "items") return false;
  const given = new URLSearchParams(query);
  for (const key of keys()) state[key] = given.get(key) ?? "";
  return true;
}
function address() {
  const given = new URLSearchParams();
  for (const key of keys()) if (state[key]) given.set(key, state[key]);
  const query = given.toString();
  return "#items" + (query ? "?" + query : "");
}
function writeHash() { history.replaceState(null, "", address()); }
function showControls() {
  for (const key of controls()) {
    const control = $(`f-${key}`);
    control.value = state[key] ?? "";
    if (control.value !== (state[key] ?? "")) control.value = state[key] = "";  // a value that this page does not know
  }
}

/* --- filter and sort */

let lower = null, orders = {};
function matching(words) {
  lower ??= T.texts.map(text => text.toLowerCase());
  const hits = new Uint8Array(lower.length);
  for (let k = 0; k < lower.length; k++) if (lower[k].includes(words)) hits[k] = 1;
  const items = new Uint8Array(T.items), rows = new Uint8Array(T.rows);
  const texts = T["item.text"], options = T["option.text"], parts = T["part.text"], start = T["option.start"], from = T["part.start"];
  for (let i = 0; i < T.items; i++) {
    let hit = hits[texts[3 * i]] | hits[texts[3 * i + 1]] | hits[texts[3 * i + 2]];
    for (let k = start[i]; !hit && k < start[i + 1]; k++) hit = hits[options[k]];
    items[i] = hit;
  }
  const item = T["row.item"];
  for (let r = 0; r < T.rows; r++) {
    let hit = items[item[r]];
    for (let k = from[r]; !hit && k < from[r + 1]; k++) hit = hits[parts[3 * k + 1]] | (parts[3 * k + 2] === NONE ? 0 : hits[parts[3 * k + 2]]);
    rows[r] = hit;
  }
  return rows;
}
function sorted(by) {
  if (orders[by]) return orders[by];
  const rows = Uint32Array.from({ length: T.rows }, (_, k) => k);
  if (by) {
    const key = { margin: r => T["adapted_speech.margin"][r], m: r => -T["row.m"][r], wer: r => -werOf(r) }[by];
    const keys = Float64Array.from(rows, r => { const value = key(r); return Number.isNaN(value) ? Infinity : value; });
    rows.sort((a, b) => keys[a] - keys[b] || a - b);
  }
  return orders[by] = rows;
}
function filter() {
  const tests = [];
  for (const field of FIELDS) if (state[field]) {
    const code = T.places[field].get(state[field]) ?? -1;
    const codes = OF_ITEM.has(field) ? T[`item.${field}`] : T[`row.${field}`], item = T["row.item"];
    tests.push(OF_ITEM.has(field) ? r => codes[item[r]] === code : r => codes[r] === code);
  }
  if (state.wrong) { const column = state.wrong; tests.push(r => valueIn(column, r) < RIGHT); }
  if (state.q) { const hits = matching(state.q.toLowerCase()); tests.push(r => hits[r]); }
  const rows = sorted(T.has[state.sort] ? state.sort : "");
  order = tests.length ? rows.filter(r => tests.every(test => test(r))) : rows;
  count.textContent = `${order.length.toLocaleString("en")} of ${T.rows.toLocaleString("en")} renderings`;
  space.style.height = `${order.length * ROW}px`;
  pool.forEach(node => { node.place = -1; });
  draw();
}

/* --- the list: as many rows as fit, moved and filled anew as it scrolls */

const ROW = 50, pool = [];
function draw() {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4), last = Math.min(order.length, first + Math.ceil(list.clientHeight / ROW) + 9);
  while (pool.length < last - first) {
    const node = make("div", { className: "row" });
    node.setAttribute("role", "option");
    node.place = -1;
    node.cause = make("span", { className: "cause" });
    node.said = make("div", { className: "said" });
    node.where = make("div", { className: "where" });
    node.numbers = make("div", { className: "numbers" });
    node.append(node.cause, make("div", {}, node.said, node.where), node.numbers);
    node.addEventListener("click", () => choose(order[node.place], true));
    space.append(node);
    pool.push(node);
  }
  pool.forEach((node, k) => {  // a node keeps the rows that are equal to its own number modulo the pool's size
    const place = first + ((k - first) % pool.length + pool.length) % pool.length;
    node.hidden = place >= last;
    if (node.hidden) { node.place = -1; return; }
    if (node.place !== place) fill(node, place);
    node.setAttribute("aria-selected", String(order[place] === chosen));
  });
  const at = order.indexOf(chosen);
  const shown = at < 0 ? null : pool.find(node => node.place === at);
  if (shown) list.setAttribute("aria-activedescendant", shown.id); else list.removeAttribute("aria-activedescendant");
}
function fill(node, place) {
  const row = order[place];
  node.place = place;
  node.id = `row-${row}`;
  node.style.transform = `translateY(${place * ROW}px)`;
  node.setAttribute("aria-setsize", order.length);
  node.setAttribute("aria-posinset", place + 1);
  node.cause.className = `cause cause-${nameOf("cause", row)}`;
  node.said.textContent = saidOf(row);
  node.where.textContent = [T.titles[nameOf("cause", row)], nameOf("domain", row), ...T.several.map(field => nameOf(field, row))].join(" · ");
  const margin = T["adapted_speech.margin"][row], m = T["row.m"][row], wer = werOf(row);
  node.numbers.replaceChildren(
    make("div", { textContent: Number.isNaN(margin) ? (valueIn("adapted_speech", row) === RIGHT ? "right" : "wrong") : `margin ${signed(margin)}` }),
    make("div", { textContent: [Number.isNaN(m) ? "" : `M ${m.toFixed(2)}`, Number.isNaN(wer) ? "" : `WER ${Math.round(100 * wer)}`].filter(Boolean).join(" · ") }));
}
const signed = value => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(Math.abs(value) < 0.1 ? 3 : 2);

/* --- one item */

function choose(row, stay) {
  if (row === undefined || row < 0) return;
  chosen = row;
  state.open = itemText(itemOf(row), 0);
  state.in = `${nameOf("voice", row)}|${nameOf("condition", row)}`;
  writeHash();
  const place = order.indexOf(row);
  if (place >= 0 && (place * ROW < list.scrollTop || (place + 1) * ROW > list.scrollTop + list.clientHeight))
    list.scrollTop = place * ROW - (stay ? 0 : list.clientHeight / 3);
  draw();
  showDetail(row);
  if (stay && getComputedStyle(detail).position === "static" && document.activeElement !== list) detail.scrollIntoView({ block: "nearest" });
}
function opened() {  // the row that the address names
  if (!state.open) return -1;
  for (let r = 0; r < T.rows; r++)
    if (itemText(itemOf(r), 0) === state.open && (!state.in || state.in === `${nameOf("voice", r)}|${nameOf("condition", r)}`)) return r;
  return -1;
}
const words = text => text.split(/\s+/).filter(Boolean);
const bare = word => word.toLowerCase().normalize("NFKC").replace(/[^\p{L}\p{N}]/gu, "");
function differences(said, heard) {  // the words of both in order: [kind, word], kind 0 in both, -1 said alone, 1 heard alone
  const a = words(said), b = words(heard), x = a.map(bare), y = b.map(bare);
  if (a.length * b.length > 4e6) return [...a.map(word => [-1, word]), ...b.map(word => [1, word])];
  const cost = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) for (let j = b.length - 1; j >= 0; j--)
    cost[i][j] = x[i] === y[j] ? cost[i + 1][j + 1] + 1 : Math.max(cost[i + 1][j], cost[i][j + 1]);
  const steps = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && x[i] === y[j]) { steps.push([0, b[j]]); i++; j++; }
    else if (j >= b.length || (i < a.length && cost[i + 1][j] >= cost[i][j + 1])) steps.push([-1, a[i++]]);
    else steps.push([1, b[j++]]);
  }
  return steps;
}
function marked(said, heard) {
  const node = make("p", { className: "text" });
  for (const [kind, word] of differences(said, heard))
    node.append(kind === 0 ? word : make(kind < 0 ? "del" : "ins", { textContent: word }), " ");
  return node;
}
function sources(part) {
  if (sounds === null) { const inside = $("sound-data"); sounds = inside ? JSON.parse(inside.textContent) : {}; }
  if (!part.hash || /^0+$/.test(part.hash)) return null;
  if (sounds[part.hash]) return `data:${KIND[T.sound_form]};base64,${sounds[part.hash]}`;
  return T.sound_form ? `${T.sound_dir}/${part.hash}.${T.sound_form}` : null;
}
const KIND = { wav: "audio/wav", flac: "audio/flac", opus: "audio/ogg" };
let sounds = null;
function showDetail(row) {
  const item = itemOf(row), cause = nameOf("cause", row), parts = partsOf(row), nodes = [];
  nodes.push(make("h3", { textContent: saidOf(row) }));
  nodes.push(make("div", { className: "badge" }, make("span", { className: `swatch cause-${cause}` }), make("span", {}, make("b", { textContent: T.titles[cause] }),
    " · " + [nameOf("domain", row), nameOf("voice", row), nameOf("condition", row)].join(" · "))));
  const errors = T["row.errors"][row], spoken = T["row.words"][row];
  for (const part of parts) {
    if (parts.length > 1) nodes.push(make("h4", { textContent: part.name }));
    const src = sources(part);
    if (src) nodes.push(make("audio", { controls: true, preload: "none", src, attributes: { "aria-label": `Sound: ${part.said ?? part.name}` } }));
    if (part.heard !== null && part.said) {
      nodes.push(make("h4", { textContent: parts.length > 1 ? "Heard by the ASR" : `Heard by the ASR: ${errors} of ${spoken} words wrong` }));
      nodes.push(errors ? marked(part.said, part.heard) : make("p", { className: "text", textContent: part.heard }));
    } else if (part.heard !== null) nodes.push(make("h4", { textContent: "Heard by the ASR" }), make("p", { className: "text", textContent: part.heard }));
  }
  nodes.push(answersOf(row));
  const others = [];
  for (let r = 0; r < T.rows; r++) if (T["row.item"][r] === item) others.push(r);
  if (others.length > 1) {
    nodes.push(make("h4", { textContent: "In other voices and conditions" }));
    nodes.push(make("div", { className: "others" }, ...others.map(r => {
      const button = make("button", { type: "button", className: "plain", textContent: `${nameOf("voice", r)} · ${nameOf("condition", r)} ${valueIn("adapted_speech", r) === RIGHT ? "✓" : "✗"}` });
      button.setAttribute("aria-pressed", String(r === row));
      button.addEventListener("click", () => choose(r, true));
      return button;
    })));
  }
  const m = T["row.m"][row];
  nodes.push(make("h4", { textContent: "As written" }), make("p", { className: "text", textContent: itemText(item, 1) }));
  nodes.push(make("p", { className: "soft small", textContent: `${nameOf("task", row)} · ${itemText(item, 0)}${Number.isNaN(m) ? "" : ` · M ${m.toFixed(2)} nats a position`}` }));
  const copy = make("button", { type: "button", className: "plain", textContent: "Copy link" });
  copy.addEventListener("click", () => copyText(copy, location.href));
  nodes.push(make("div", { className: "tools" }, copy));
  detail.replaceChildren(...nodes);
}
function answersOf(row) {
  const item = itemOf(row), options = optionsOf(item), golds = goldsOf(item);
  const generated = T.columns.some(([column]) => T[`${column}.text`]);
  const table = make("table", {}), head = make("tr", {}, make("th", { textContent: options.length ? "Option" : "Column", attributes: { scope: "col" } }));
  const mark = right => make("span", { className: right ? "right" : "wrong", textContent: right ? "✓" : "✗", attributes: { role: "img", "aria-label": right ? "chosen, right" : "chosen, wrong" } });
  if (options.length) {
    for (const [column] of T.columns) head.append(make("th", { textContent: T.column_titles[column], attributes: { scope: "col" } }));
    const body = make("tbody", {}, ...options.map((option, k) => {
      const line = make("tr", { className: golds.has(k) ? "gold" : "" }, make("th", { textContent: option, attributes: { scope: "row" } }, golds.has(k) ? " (right)" : ""));
      for (const [column] of T.columns) line.append(make("td", {}, T[`${column}.choice`][indexIn(column, row)] === k ? mark(golds.has(k)) : ""));
      return line;
    }));
    if (T.columns.some(([column]) => !Number.isNaN(T[`${column}.margin`][indexIn(column, row)])))
      body.append(make("tr", {}, make("th", { textContent: "margin, nats", attributes: { scope: "row" } }), ...T.columns.map(([column]) => {
        const margin = T[`${column}.margin`][indexIn(column, row)];
        return make("td", { textContent: Number.isNaN(margin) ? "–" : signed(margin) });
      })));
    table.append(make("thead", {}, head), body);
  }
  const nodes = options.length ? [make("h4", { textContent: "What each chose" }), table] : [make("h4", { textContent: "Right" }), make("p", { className: "text", textContent: itemText(item, 2) })];
  if (generated) for (const [column] of T.columns) if (T[`${column}.text`]) {
    const right = valueIn(column, row) / RIGHT, said = textAt(T[`${column}.text`][indexIn(column, row)]);
    nodes.push(make("h4", { textContent: `${T.column_titles[column]}: ${right === 1 ? "right" : right === 0 ? "wrong" : Math.round(100 * right) + "% right"}` }),
      make("p", { className: "text", textContent: said ?? "–" }));
  }
  return make("div", {}, ...nodes);
}

/* --- listeners */

function setUp() {
  const add = (id, value, words) => $(id).append(make("option", { value, textContent: words }));
  const counts = field => { const n = new Uint32Array(T.names[field].length); for (let r = 0; r < T.rows; r++) n[codeOf(field, r)]++; return n; };
  for (const [name] of T.fields) $("f-wrong").parentNode.before(
    make("label", {}, name, make("select", { id: `f-field.${name}` }, make("option", { value: "", textContent: "all" }))));
  for (const field of FIELDS) {
    const n = counts(field);
    T.names[field].forEach((name, k) => add(`f-${field}`, name, `${field === "cause" ? T.titles[name] : name} (${n[k].toLocaleString("en")})`));
    const label = $(`l-${field}`);
    if (label) label.hidden = T.names[field].length < 2;
  }
  for (const [column] of T.columns) add("f-wrong", column, T.column_titles[column]);
  T.several = ["voice", "condition"].filter(field => T.names[field].length > 1);
  const any = values => values.some(value => !Number.isNaN(value));
  T.has = { margin: any(T["adapted_speech.margin"]), m: any(T["row.m"]), wer: T["row.words"].some(n => n > 0), "": true };
  for (const option of $("f-sort").options) option.hidden = !T.has[option.value];
  const change = key => () => { state[key] = $(`f-${key}`).value; list.scrollTop = 0; filter(); writeHash(); };
  for (const key of [...FIELDS, "wrong", "sort"]) $(`f-${key}`).addEventListener("change", change(key));
  $("f-q").addEventListener("input", change("q"));
  $("filters").addEventListener("submit", event => event.preventDefault());
  $("filters").addEventListener("reset", event => { event.preventDefault(); for (const key of controls()) state[key] = ""; showControls(); list.scrollTop = 0; filter(); writeHash(); });
  list.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", () => requestAnimationFrame(draw));
  list.addEventListener("keydown", event => {
    const at = order.indexOf(chosen), page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: order.length - 1 }[event.key];
    if (to !== undefined && order.length) { event.preventDefault(); choose(order[Math.min(order.length - 1, Math.max(0, to))], true); }
    else if (event.key === "Enter" && chosen >= 0) { event.preventDefault(); detail.focus(); }
    else if (event.key === " " && chosen >= 0) { event.preventDefault(); const audio = detail.querySelector("audio"); if (audio) audio.paused ? audio.play() : audio.pause(); }
  });
  addEventListener("hashchange", () => { if (readHash()) restore(true); });
}
function restore(go) {
  showControls();
  list.scrollTop = 0;
  filter();
  const row = opened();
  if (row >= 0) choose(row); else { chosen = -1; if (order.length) showDetail(chosen = order[0]), draw(); }
  if (go) $("items").scrollIntoView();
}
const began = performance.now();
unpack().then(table => {
  T = table;
  const asked = readHash();
  if (!asked) for (const key of keys()) state[key] = "";
  setUp();
  restore(asked);
  document.documentElement.dataset.itemsReady = (performance.now() - began).toFixed(1);
}).catch(cause => { count.textContent = `The items cannot be shown: ${cause.message}`; });
})();
