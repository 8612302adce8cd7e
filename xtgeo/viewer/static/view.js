// The page of `xtgeo view`: a map, a list, a card for what is selected, and marks.
// Filter and order live in two places that must agree: `passes` for the list, `expression` for the map.
import * as maplibre from "./maplibre-gl.mjs";

const $ = (id) => document.getElementById(id);
const TOKEN = location.hash.slice(1);
const MARKS = ["true", "false", "unsure", "unseen"];
const COLOURS = { true: "#3ddc84", false: "#ff5a5a", unsure: "#b39bff", unseen: "#ffb224" };
const FILES = ["", "#12d0ff", "#ff6fdf", "#c8e64a", "#ffffff"];
const ROW = 28;
const SHAPES = 4000; // outlines on the map at once

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { "X-Xtgeo-Token": TOKEN } });
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || `the server said ${answer.status}`);
  return answer;
}
const json = async (path, options) => (await ask(path, options)).json();

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) key in node ? (node[key] = value) : node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function tell(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

let scene, map, files = [], found = null;
let marks = [];             // of each object: one of MARKS
let order = [];             // indices of the objects that pass, as they are listed
let picked = null;
let sort = { key: "score", down: true };
let columns = [];
const wanted = { score: null, from: null, to: null, kinds: null, marks: new Set(MARKS) };

async function start() {
  if (!TOKEN) return tell("This page needs its whole address, with what stands behind the #: xtgeo view printed it.");
  scene = await json("scene");
  document.title = `${scene.id} · xtgeo`;
  $("name").textContent = scene.id;
  const time = scene.time ? ` · ${scene.time.slice(0, 16).replace("T", " ")}` : "";
  $("about").textContent = `${scene.shape[1].toLocaleString()} × ${scene.shape[0].toLocaleString()} pixels${time}`;
  map = draw();
  legend();
  files = await Promise.all(scene.overlays.map((_, n) => json(`objects/${n}`)));
  const review = await json("review");
  await new Promise((ready) => (map.isStyleLoaded() ? ready() : map.once("load", ready)));
  for (const file of files) file.count = file.lon.length;
  files.slice(1).forEach((file, n) => overlay(file, n + 1));
  if (files.length) {
    found = files[0];
    marks = Array(found.count).fill("unseen");
    for (const [i, state] of Object.entries(review.marks)) marks[i] = state;
    overlay(found, 0);
    list();
    filters();
    refresh();
  }
  outlines();
  map.on("moveend", outlines);
  document.body.dataset.ready = "yes";
  watch();
}

// The map

function draw() {
  const [west, south, east, north] = scene.bounds;
  const sea = getComputedStyle(document.documentElement).getPropertyValue("--sea");
  const map = new maplibre.Map({
    container: "map",
    style: {
      version: 8,
      sources: { scene: { type: "raster", tiles: [tiles(Math.round(scene.progress * 1000))], tileSize: 256, minzoom: 0, maxzoom: scene.depth } },
      layers: [
        { id: "sea", type: "background", paint: { "background-color": sea.trim() } },
        { id: "scene", type: "raster", source: "scene", paint: { "raster-resampling": "nearest", "raster-fade-duration": 0 } },
      ],
    },
    bounds: [[west, south], [east, north]],
    fitBoundsOptions: { padding: 30 },
    maxZoom: Math.min(24, scene.depth + 3),
    attributionControl: false,
    dragRotate: false,
    pitchWithRotate: false,
    transformRequest: (url) => ({ url, headers: { "X-Xtgeo-Token": TOKEN } }),
    keyboard: true,
  });
  map.touchZoomRotate.disableRotation();
  map.addControl(new maplibre.NavigationControl({ showCompass: false }), "bottom-right");
  map.addControl(new maplibre.ScaleControl({ maxWidth: 140 }), "bottom-left");
  map.on("mousemove", ({ lngLat }) => {
    const { lng, lat } = lngLat.wrap();
    $("pointer").textContent = `${Math.abs(lat).toFixed(5)}° ${lat < 0 ? "S" : "N"}  ${Math.abs(lng).toFixed(5)}° ${lng < 0 ? "W" : "E"}`;
  });
  map.on("mouseout", () => ($("pointer").textContent = ""));
  map.on("click", (event) => pick(nearest(event.point), { stay: true }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    map.setPaintProperty("sea", "background-color", getComputedStyle(document.documentElement).getPropertyValue("--sea").trim());
  });
  return map;
}

const tiles = (version) => `${new URL("tiles/", document.baseURI).href}${version}/{z}/{x}/{y}.png`;

// The coarse copies of a scene that has none of its own are made while one looks: the picture is asked for again now and then.
async function watch() {
  let shown = scene.progress;
  for (;;) {
    const { progress, trouble } = await json("status").catch(() => ({ progress: shown, trouble: "the server is gone: start xtgeo view again" }));
    $("reading").hidden = progress === 1 && !trouble;
    $("reading").firstChild.value = progress;
    $("reading").lastChild.textContent = trouble || `reading the scene: ${Math.floor(progress * 100)} %`;
    if (progress - shown > 0.15 || (progress === 1 && shown !== 1)) {
      shown = progress;
      map.getSource("scene").setTiles([tiles(Math.round(progress * 1000))]);
    }
    if (progress === 1 || trouble) break;
    await new Promise((later) => setTimeout(later, 700));
  }
  document.body.dataset.complete = "yes";
}

// Centres of all objects are on the map; outlines are of those in sight, once they are larger than a dot: the rest would only cost time.
function overlay(file, n) {
  file.kinds = [...new Set(file.class)];
  file.x = Float64Array.from(file.lon, across);
  file.y = Float64Array.from(file.lat, down);
  const features = file.lon.map((lon, i) => ({
    type: "Feature",
    id: i + 1,
    properties: { s: file.score?.[i] ?? -1, l: file.length[i] ?? -1, k: file.kinds.indexOf(file.class[i]), m: n ? "" : marks[i] },
    geometry: { type: "Point", coordinates: [lon, file.lat[i]] },
  }));
  const nothing = { type: "FeatureCollection", features: [] };
  const colour = n ? FILES[Math.min(n, FILES.length - 1)] : ["match", ["get", "m"], ...MARKS.slice(0, 3).flatMap((m) => [m, COLOURS[m]]), COLOURS.unseen];
  map.addSource(`points${n}`, { type: "geojson", data: { ...nothing, features }, tolerance: 0, buffer: 16 });
  if (!file.points) {
    map.addSource(`shapes${n}`, { type: "geojson", data: nothing, tolerance: 0.1 });
    map.addLayer({ id: `casing${n}`, type: "line", source: `shapes${n}`, paint: { "line-color": "#000", "line-opacity": 0.45, "line-width": 3.5 } });
    map.addLayer({ id: `shapes${n}`, type: "line", source: `shapes${n}`, paint: { "line-color": colour, "line-width": 1.8 } });
  }
  const wide = file.points ? 5 : ["interpolate", ["linear"], ["zoom"], scene.depth - 7, 3.5, scene.depth - 3, 9];
  const faint = file.points ? 1 : ["interpolate", ["linear"], ["zoom"], scene.depth - 3.5, 1, scene.depth - 2.5, 0];
  const ring = { "circle-color": "rgba(0, 0, 0, 0)", "circle-stroke-opacity": faint };
  map.addLayer({ id: `points${n}`, type: "circle", source: `points${n}`, paint: { ...ring, "circle-radius": wide, "circle-stroke-color": colour, "circle-stroke-width": 1.8 } });
  if (n === 0) {
    map.addSource("picked", { type: "geojson", data: nothing });
    map.addLayer({ id: "picked", type: "line", source: "picked", filter: ["!=", ["geometry-type"], "Point"], paint: { "line-color": "#fff", "line-width": 2.5 } });
    map.addLayer({ id: "picked-point", type: "circle", source: "picked", filter: ["==", ["geometry-type"], "Point"], paint: { ...ring, "circle-radius": 13, "circle-stroke-color": "#fff", "circle-stroke-width": 2.5 } });
  }
}

function outlines() {
  const { x: [west, east], y: [north, south] } = sight(), near = map.getZoom() > scene.depth - 6;
  files.forEach((file, n) => {
    if (file.points) return;
    const features = [];
    for (let i = 0; near && i < file.count && features.length < SHAPES; i++) {
      if (file.x[i] < west || file.x[i] > east || file.y[i] < north || file.y[i] > south || (n === 0 && !passes(i))) continue;
      features.push({ type: "Feature", properties: { m: n ? "" : marks[i] }, geometry: file.geometry[i] });
    }
    map.getSource(`shapes${n}`).setData({ type: "FeatureCollection", features });
  });
}

// Web Mercator, the world one long
const across = (lon) => lon / 360 + 0.5;
const down = (lat) => 0.5 - Math.asinh(Math.tan((Math.max(-85.05, Math.min(85.05, lat)) * Math.PI) / 180)) / (2 * Math.PI);

function sight() {
  const bounds = map.getBounds(), middle = (scene.bounds[0] + scene.bounds[2]) / 2;
  const turn = 360 * Math.round((middle - bounds.getCenter().lng) / 360); // a copy of the world may be in sight
  const x = [across(bounds.getWest() + turn), across(bounds.getEast() + turn)], y = [down(bounds.getNorth()), down(bounds.getSouth())];
  const [w, h] = [x[1] - x[0], y[1] - y[0]];
  return { x: [x[0] - w / 4, x[1] + w / 4], y: [y[0] - h / 4, y[1] + h / 4], from: [x[0], y[0]], per: w / map.getContainer().clientWidth };
}

const layersOf = (n) => ["casing", "shapes", "points"].map((name) => name + n).filter((name) => map.getLayer(name));

// The object that is shown at a point of the screen: within a few pixels of its centre, or within half its length.
function nearest(point) {
  if (!found || !$("legend").querySelector("input").checked) return null;
  const { from, per } = sight(), [x, y] = [from[0] + point.x * per, from[1] + point.y * per];
  const metres = 40075016.7 * Math.cos((map.getCenter().lat * Math.PI) / 180) * per; // in a pixel
  let best = null, least = 1;
  for (const i of order) {
    const away = Math.hypot(found.x[i] - x, found.y[i] - y) / per / Math.max(9, (found.length[i] ?? 0) / metres / 2);
    if (away < least) [best, least] = [i, away];
  }
  return best;
}

function legend() {
  const files = scene.overlays.map(({ name, count }, n) => {
    const box = make("input", { type: "checkbox", checked: true, onchange: () => show(n, box.checked) });
    return make("label", { className: n ? `file${Math.min(n, 4)}` : "unseen" }, box, make("i", { className: "dot" }), `${name} (${count.toLocaleString()})`);
  });
  const grey = scene.layers.length === 1;
  const layers = scene.layers.flatMap(({ name, low, high, unit }, i) => [
    make("i", { className: `ramp ${grey ? "grey" : `layer${i}`}` }),
    `${name}  ${+low.toPrecision(3)} to ${+high.toPrecision(3)} ${unit === "unknown" ? "" : unit}`,
  ].map((part) => (typeof part === "string" ? make("span", {}, part) : part)));
  $("legend").append(...files, make("div", { className: "layers" }, ...layers));
}

function show(n, visible) {
  for (const layer of layersOf(n)) map.setLayoutProperty(layer, "visibility", visible ? "visible" : "none");
}

// The filter

function filters() {
  const { score, length } = found;
  $("filters").hidden = found.count === 0;
  if (score) {
    const known = score.filter((s) => s !== null);
    const [low, high] = [Math.min(0, ...extent(known)), Math.max(1, ...extent(known))];
    const counts = Array(50).fill(0);
    for (const s of known) counts[Math.min(49, Math.floor(((s - low) / (high - low)) * 50))]++;
    const tallest = Math.max(1, ...counts);
    counts.forEach((count, i) => {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const tall = count ? Math.max(1, (24 * count) / tallest) : 0;
      for (const [key, value] of Object.entries({ x: i + 0.08, y: 24 - tall, width: 0.84, height: tall })) bar.setAttribute(key, value);
      $("histogram").append(bar);
    });
    const slider = Object.assign($("least-score"), { min: low, max: high, step: (high - low) / 100, value: low });
    slider.oninput = () => {
      const least = +slider.value;
      wanted.score = least > low ? least : null;
      refresh();
    };
    $("by-score").hidden = false;
  }
  if (length.some((metres) => metres !== null)) {
    const [low, high] = extent(length.filter((metres) => metres !== null));
    for (const [id, key, bound] of [["least-length", "from", low], ["most-length", "to", high]]) {
      $(id).placeholder = Math.round(bound);
      $(id).oninput = () => {
        wanted[key] = $(id).value === "" ? null : +$(id).value;
        refresh();
      };
    }
    $("by-length").hidden = false;
  }
  if (found.kinds.length > 1) {
    wanted.kinds = new Set(found.kinds);
    choices($("by-class"), found.kinds, wanted.kinds, (kind) => found.class.filter((other) => other === kind).length, () => "");
  }
  if (scene.review) choices($("by-mark"), MARKS, wanted.marks, () => null, (mark) => mark);
  $("reset").onclick = (event) => {
    event.preventDefault();
    Object.assign(wanted, { score: null, from: null, to: null });
    if (wanted.kinds) found.kinds.forEach((kind) => wanted.kinds.add(kind));
    MARKS.forEach((mark) => wanted.marks.add(mark));
    $("least-score").value = $("least-score").min;
    $("least-length").value = $("most-length").value = "";
    document.querySelectorAll(".choices input").forEach((box) => (box.checked = true));
    refresh();
  };
}

function choices(place, names, chosen, count, look) {
  const labels = names.map((name) => {
    const box = make("input", { type: "checkbox", checked: true, value: name });
    box.onchange = () => {
      box.checked ? chosen.add(name) : chosen.delete(name);
      refresh();
    };
    const dot = look(name) ? make("i", { className: `dot ${look(name)}` }) : null;
    const n = count(name);
    return make("label", {}, box, dot, name || "no class", n === null ? null : make("small", {}, n.toLocaleString()));
  });
  place.append(make("div", { className: "choices" }, ...labels));
  place.hidden = false;
}

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return [low, high];
}

function passes(i) {
  const { score, from, to, kinds } = wanted;
  return (
    (score === null || (found.score[i] ?? -1) >= score) &&
    (from === null || (found.length[i] ?? -1) >= from) &&
    (to === null || (found.length[i] !== null && found.length[i] <= to)) &&
    (kinds === null || kinds.has(found.class[i])) &&
    wanted.marks.has(marks[i])
  );
}

function expression() {
  const { score, from, to, kinds } = wanted, all = ["all"];
  if (score !== null) all.push([">=", ["get", "s"], score]);
  if (from !== null) all.push([">=", ["get", "l"], from]);
  if (to !== null) all.push([">=", ["get", "l"], 0], ["<=", ["get", "l"], to]);
  if (kinds !== null) all.push(["in", ["get", "k"], ["literal", [...kinds].map((kind) => found.kinds.indexOf(kind))]]);
  if (wanted.marks.size < MARKS.length) all.push(["in", ["get", "m"], ["literal", [...wanted.marks]]]);
  return all;
}

let applied = "";

function refresh() {
  order = [];
  for (let i = 0; i < found.count; i++) if (passes(i)) order.push(i);
  arrange();
  const filter = expression(), text = JSON.stringify(filter);
  if (text !== applied) map.setFilter("points0", filter); // which costs the map all its tiles
  applied = text;
  outlines();
  $("least-score-told").textContent = (wanted.score ?? +$("least-score").min).toFixed(2);
  const slider = $("least-score"), part = (slider.value - slider.min) / (slider.max - slider.min);
  [...$("histogram").children].forEach((bar, i) => bar.setAttribute("class", (i + 0.5) / 50 < part ? "out" : ""));
  $("reset").hidden = order.length === found.count;
  tally();
}

// The list

function list() {
  columns = [
    ["mark", "", "1rem", (i) => make("i", { className: `dot ${marks[i]}`, title: marks[i] })],
    ["score", "score", "3rem", (i) => number(found.score?.[i], 2)],
    ["class", "class", "minmax(3rem, 1fr)", (i) => make("span", { title: found.class[i] }, found.class[i])],
    ["length", "length m", "4.2rem", (i) => number(found.length[i], 0)],
    ["area", "area m²", "4.6rem", (i) => number(found.area[i], 0)],
    ["flags", "flags", "4rem", (i) => make("span", { title: found.flags[i] }, found.flags[i])],
  ].filter(([key]) => key === "mark" ? scene.review : found[key]?.some((value) => value !== null && value !== ""));
  if (columns.length === (scene.review ? 1 : 0)) columns.push(["number", "number", "1fr", (i) => number(i + 1, 0)]);
  if (!found.score) sort = { key: columns.at(-1)[0], down: false };
  $("list").style.setProperty("--columns", columns.map(([, , width]) => width).join(" "));
  $("heads").append(...columns.map(([key, title]) => make("button", {
    type: "button", title: `sort by ${key}`, className: ["score", "length", "area", "number"].includes(key) ? "number" : "", "data-key": key,
    onclick: () => {
      sort = { key, down: sort.key === key ? !sort.down : key !== "class" && key !== "flags" };
      arrange();
    },
  }, title || "●")));
  $("rows").addEventListener("scroll", rows, { passive: true });
  new ResizeObserver(rows).observe($("rows"));
  $("list").hidden = false;
}

const number = (value, digits) => make("span", { className: "number" }, value === null || value === undefined ? "" : value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits }));

function arrange() {
  const value = { mark: (i) => MARKS.indexOf(marks[i]), number: (i) => i }[sort.key] ?? ((i) => found[sort.key]?.[i] ?? null);
  const sign = sort.down ? -1 : 1;
  order.sort((a, b) => {
    const [u, v] = [value(a), value(b)];
    if (u === v) return a - b;
    if (u === null || v === null) return u === null ? 1 : -1;
    return u < v ? -sign : sign;
  });
  for (const head of $("heads").children) {
    const own = head.dataset.key === sort.key;
    own ? head.setAttribute("aria-sort", sort.down ? "descending" : "ascending") : head.removeAttribute("aria-sort");
    head.textContent = head.textContent.replace(/ [▾▴]$/, "") + (own ? (sort.down ? " ▾" : " ▴") : "");
  }
  $("sheet").style.height = `${order.length * ROW}px`;
  rows();
}

// Only rows that are in sight exist: a hundred thousand objects are as quick as ten.
function rows() {
  const { scrollTop, clientHeight } = $("rows");
  const first = Math.max(0, Math.floor(scrollTop / ROW) - 4);
  const some = order.slice(first, first + Math.ceil(clientHeight / ROW) + 8);
  $("sheet").replaceChildren(...some.map((i, n) => {
    const row = make("div", { className: i === picked ? "row picked" : "row", role: "row", "data-index": i, onclick: () => pick(i) }, ...columns.map((column) => column[3](i)));
    row.style.top = `${(first + n) * ROW}px`;
    return row;
  }));
}

function reveal() {
  const at = order.indexOf(picked) * ROW, view = $("rows");
  if (at >= 0 && (at < view.scrollTop || at + ROW > view.scrollTop + view.clientHeight)) view.scrollTop = at - view.clientHeight / 2;
  rows();
}

// What is selected

let place = -1; // in the list, kept when what is selected leaves it

function pick(i, { stay = false } = {}) {
  picked = i;
  const nothing = i === null;
  $("card").hidden = nothing;
  const shapes = nothing ? [] : [{ type: "Point", coordinates: [found.lon[i], found.lat[i]] }, ...(found.points ? [] : [found.geometry[i]])];
  const features = shapes.map((geometry) => ({ type: "Feature", properties: {}, geometry }));
  map?.getSource("picked")?.setData({ type: "FeatureCollection", features });
  if (nothing) return found && rows();
  place = order.indexOf(i);
  reveal();
  pressed();
  card(i);
  if (!stay) fly();
}

function fly() {
  if (picked === null) return;
  const near = Math.max(map.getZoom(), scene.depth - 1);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  map.easeTo({ center: [found.lon[picked], found.lat[picked]], zoom: near, duration: calm ? 0 : 350 });
}

async function card(i) {
  $("marks").hidden = !scene.review;
  $("record").replaceChildren();
  const [record, chip] = await Promise.all([json(`objects/0/${i}`), ask(`chips/0/${i}`).then((answer) => answer.blob())]).catch((error) => [{ error: error.message }, null]);
  if (i !== picked) return; // one has gone on
  URL.revokeObjectURL($("chip").src);
  $("chip").src = chip ? URL.createObjectURL(chip) : "";
  const shown = (value) => (typeof value === "number" && !Number.isInteger(value) ? +value.toFixed(5) : value);
  $("record").replaceChildren(...Object.entries(record).map(([key, value]) => make("tr", {}, make("td", {}, key), make("td", {}, String(shown(value))))));
}

function step(by) {
  if (!order.length) return;
  const at = order.indexOf(picked);
  const next = at >= 0 ? at + by : place >= 0 ? (by > 0 ? place : place - 1) : by > 0 ? 0 : order.length - 1;
  if (next >= 0 && next < order.length) pick(order[next]);
}

// Marks

let waiting = 0, unsaved = {}, saving = Promise.resolve();

function pressed() {
  for (const button of $("marks").children) button.setAttribute("aria-pressed", marks[picked] === button.dataset.mark);
}

async function mark(state) {
  if (picked === null || !scene.review) return;
  const i = picked;
  marks[i] = state ?? "unseen";
  unsaved[i] = state;
  map.getSource("points0").updateData({ update: [{ id: i + 1, addOrUpdateProperties: [{ key: "m", value: marks[i] }] }] });
  pressed();
  refresh();
  if (state && $("go-on").firstChild.checked) step(1);
  waiting++;
  saved("saving …");
  const turn = saving.then(save); // one after the other: what is late must not undo what is new
  saving = turn.catch(() => {});
  try {
    await turn;
    if (waiting === 1) saved(`saved in ${scene.review}`);
  } catch (error) {
    saved(`not saved: ${error.message}`, true); // the next mark takes these along
  } finally {
    waiting--;
  }
}

async function save() {
  const sent = { ...unsaved };
  if (!Object.keys(sent).length) return; // they went with those before
  await json("review", { method: "POST", body: JSON.stringify({ marks: sent }) });
  for (const [key, value] of Object.entries(sent)) if (unsaved[key] === value) delete unsaved[key];
}

function saved(text, bad = false) {
  Object.assign($("saved"), { textContent: text, className: bad ? "bad" : "", title: text });
}

function tally() {
  $("shown").textContent = order.length === found.count ? `${found.count.toLocaleString()} objects` : `${order.length.toLocaleString()} of ${found.count.toLocaleString()}`;
  $("tally").hidden = $("go-on").hidden = !scene.review || !found.count;
  const counts = Object.fromEntries(MARKS.map((mark) => [mark, 0]));
  for (const mark of marks) counts[mark]++;
  $("bar").replaceChildren(...MARKS.slice(0, 3).map((mark) => {
    const part = make("i", { className: mark });
    part.style.width = `${(100 * counts[mark]) / found.count}%`;
    return part;
  }));
  $("counts").replaceChildren(...MARKS.map((mark) => make("div", { className: mark }, make("i", { className: "dot" }), make("dt", {}, mark), make("dd", { "data-count": mark }, counts[mark].toLocaleString()))));
}

// Keys and buttons

const KEYS = {
  j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
  1: () => mark("true"), 2: () => mark("false"), 3: () => mark("unsure"), 0: () => mark(null), Backspace: () => mark(null),
  a: () => $("go-on").firstChild.click(), f: fly, h: () => map.fitBounds([scene.bounds.slice(0, 2), scene.bounds.slice(2)], { padding: 30 }),
  o: () => $("legend").querySelector("input")?.click(), Escape: () => pick(null), "?": () => $("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input[type=number]") || $("keys").open;
  const sliding = event.target.matches("input[type=range]") && event.key.startsWith("Arrow");
  const onMap = event.target.matches("canvas") && event.key.startsWith("Arrow");
  if (typing || sliding || onMap || event.ctrlKey || event.metaKey || event.altKey || !map || !(event.key in KEYS)) return;
  if (!found && !"h?".includes(event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});
for (const button of $("marks").children) button.onclick = () => mark(marks[picked] === button.dataset.mark ? null : button.dataset.mark);
$("close").onclick = () => pick(null);
$("help").onclick = () => $("keys").showModal();
addEventListener("beforeunload", (event) => Object.keys(unsaved).length && event.preventDefault());

start().catch((error) => tell(error.message));
