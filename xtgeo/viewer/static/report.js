"use strict";
// The map of a report: pictures, footprints and objects on a canvas; one drags, turns the wheel, clicks.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const COLOURS = ["#ffb224", "#12d0ff", "#ff6fdf", "#7ee787", "#b39bff", "#ff8a65", "#e6e6e6"];
  const colour = (k) => COLOURS[k % COLOURS.length];
  for (const dot of document.querySelectorAll("i[data-kind]")) dot.style.background = colour(data.kinds.indexOf(dot.dataset.kind));
  const map = document.getElementById("map");
  if (!map) return;
  const canvas = map.querySelector("canvas"), pen = canvas.getContext("2d");
  const [key, told, scale, pointer] = ["key", "told", "scale", "pointer"].map((id) => document.getElementById(id));
  const hidden = new Set();
  let picked = -1, wait = 0;
  const view = { x: 0, y: 0, per: 1 }; // the middle, and places in a pixel of the screen

  const images = data.scenes.map((_, n) => document.querySelector(`img[data-scene="${n}"]`));
  const paths = data.scenes.map(({ rings }) => path(rings));
  const outlines = data.objects.map((object) => (object[7] ? path(object[7]) : null));

  function path(rings) {
    const made = new Path2D();
    for (const ring of rings) {
      for (let i = 0; i < ring.length; i += 2) i ? made.lineTo(ring[i], ring[i + 1]) : made.moveTo(ring[i], ring[i + 1]);
      made.closePath();
    }
    return made;
  }

  function box(n) {
    let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
    const take = (x, y) => ([left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)]);
    data.scenes.forEach(({ rings, frame }, i) => {
      if (n !== undefined && n !== i) return;
      for (const ring of rings) for (let k = 0; k < ring.length; k += 2) take(ring[k], ring[k + 1]);
      if (frame) take(frame[0], frame[1]), take(frame[2], frame[3]);
    });
    for (const [x, y, i] of data.objects) if (n === undefined || n === i) take(x, y);
    return left < Infinity ? [left, top, right, bottom] : [0, 0, data.fine, data.fine];
  }

  const boxes = data.scenes.map((_, n) => box(n));

  function fit(n) {
    const [left, top, right, bottom] = box(n);
    Object.assign(view, { x: (left + right) / 2, y: (top + bottom) / 2 });
    view.per = Math.max((right - left) / (canvas.clientWidth - 40), (bottom - top) / (canvas.clientHeight - 40), 1);
    draw();
  }

  const soon = () => (wait ||= requestAnimationFrame(draw));

  function draw() {
    wait = 0;
    const ratio = devicePixelRatio || 1, [w, h] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) [canvas.width, canvas.height] = [Math.round(w * ratio), Math.round(h * ratio)];
    const s = ratio / view.per;
    const place = () => pen.setTransform(s, 0, 0, s, canvas.width / 2 - view.x * s, canvas.height / 2 - view.y * s);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.imageSmoothingEnabled = false;
    data.scenes.forEach(({ frame, rings }, n) => {
      place();
      if (frame && images[n]?.complete && images[n].naturalWidth) {
        pen.save();
        if (rings.length) pen.clip(paths[n], "evenodd");
        pen.drawImage(images[n], frame[0], frame[1], frame[2] - frame[0], frame[3] - frame[1]);
        pen.restore();
      }
      stroke(paths[n], "rgba(128, 140, 155, .9)", 1);
    });
    data.objects.forEach((object, i) => {
      const [x, y, , kind] = object;
      if (hidden.has(kind)) return;
      const [px, py] = screen(x, y);
      if (px < -40 || py < -40 || px > w + 40 || py > h + 40) return;
      const bright = i === picked ? "#ffffff" : colour(kind);
      place();
      if (outlines[i]) stroke(outlines[i], bright, i === picked ? 2.5 : 1.5);
      if (!outlines[i] || size(object) / view.per < 14) {
        pen.setTransform(ratio, 0, 0, ratio, 0, 0);
        pen.beginPath();
        pen.arc(px, py, i === picked ? 9 : 5, 0, 7);
        [pen.strokeStyle, pen.lineWidth] = [bright, i === picked ? 2.5 : 1.5];
        pen.stroke();
      }
    });
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    [pen.font, pen.fillStyle] = ["12px system-ui, sans-serif", getComputedStyle(map).color];
    boxes.forEach(([left, top, right, bottom], n) => {
      const [x, y] = screen(right, (top + bottom) / 2);
      if ((right - left) / view.per < 60 && boxes.length < 200) pen.fillText(data.scenes[n].name, x < w - 120 ? x + 10 : x - 10 - pen.measureText(data.scenes[n].name).width, y + 4);
    });
    bar();

    function stroke(line, style, width) {
      [pen.strokeStyle, pen.lineWidth] = [style, width * view.per];
      pen.stroke(line);
    }
  }

  const size = (object) => {
    const ring = object[7][0];
    let [low, high] = [Infinity, -Infinity];
    for (let i = 0; i < ring.length; i += 2) [low, high] = [Math.min(low, ring[i]), Math.max(high, ring[i])];
    return high - low;
  };
  const screen = (x, y) => [(x - view.x) / view.per + canvas.clientWidth / 2, (y - view.y) / view.per + canvas.clientHeight / 2];
  const there = (px, py) => [view.x + (px - canvas.clientWidth / 2) * view.per, view.y + (py - canvas.clientHeight / 2) * view.per];
  const degrees = (x, y) => {
    const [u, v] = [(x + data.origin[0]) / data.fine, (y + data.origin[1]) / data.fine];
    return [((u * 360 - 180 + 540) % 360) - 180, (Math.atan(Math.sinh(Math.PI * (1 - 2 * v))) * 180) / Math.PI];
  };

  function bar() {
    const lat = degrees(view.x, view.y)[1];
    const metres = (view.per / data.fine) * 40075016.7 * Math.cos((lat * Math.PI) / 180);
    const most = 120 * metres, power = 10 ** Math.floor(Math.log10(most));
    const round = [5, 2, 1].map((n) => n * power).find((n) => n <= most);
    scale.style.width = `${round / metres}px`;
    scale.textContent = round >= 1000 ? `${round / 1000} km` : `${round} m`;
  }

  function zoom(by, px = canvas.clientWidth / 2, py = canvas.clientHeight / 2) {
    const [x, y] = there(px, py);
    view.per = Math.min(data.fine / 100, Math.max(0.02, view.per / by));
    const [nx, ny] = there(px, py);
    Object.assign(view, { x: view.x + x - nx, y: view.y + y - ny });
    soon();
  }

  function pick(px, py) {
    let least = 12;
    picked = -1;
    data.objects.forEach(([x, y, , kind], i) => {
      if (hidden.has(kind)) return;
      const [a, b] = screen(x, y), away = Math.hypot(a - px, b - py);
      if (away < least) [least, picked] = [away, i];
    });
    told.hidden = picked < 0;
    if (picked >= 0) {
      const [, , n, kind, score, length, id] = data.objects[picked];
      const lines = [data.scenes[n].name, data.kinds[kind], score === null ? "" : `score ${score}`, length === null ? "" : `${length} m`];
      told.replaceChildren(Object.assign(document.createElement("b"), { textContent: id }), lines.filter(Boolean).join(" · "));
    }
    soon();
  }

  const held = new Map();
  let moved = 0;
  const at = (event) => [event.clientX - canvas.getBoundingClientRect().left, event.clientY - canvas.getBoundingClientRect().top];
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, at(event));
    moved = 0;
    canvas.classList.add("dragged");
  });
  canvas.addEventListener("pointermove", (event) => {
    const [px, py] = at(event), before = held.get(event.pointerId);
    const [lon, lat] = degrees(...there(px, py));
    pointer.textContent = `${Math.abs(lat).toFixed(4)}° ${lat < 0 ? "S" : "N"}  ${Math.abs(lon).toFixed(4)}° ${lon < 0 ? "W" : "E"}`;
    if (!before) return;
    const other = [...held].find(([id]) => id !== event.pointerId)?.[1];
    if (other) zoom(Math.hypot(px - other[0], py - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1])), ...other);
    else Object.assign(view, { x: view.x - (px - before[0]) * view.per, y: view.y - (py - before[1]) * view.per });
    moved += Math.abs(px - before[0]) + Math.abs(py - before[1]);
    held.set(event.pointerId, [px, py]);
    soon();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      held.delete(event.pointerId);
      canvas.classList.remove("dragged");
      if (end === "pointerup" && moved < 4) pick(...at(event));
    });
  }
  canvas.addEventListener("pointerleave", () => (pointer.textContent = ""));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...at(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-80, 0], ArrowRight: [80, 0], ArrowUp: [0, -80], ArrowDown: [0, 80] }[event.key];
    if (step) Object.assign(view, { x: view.x + step[0] * view.per, y: view.y + step[1] * view.per });
    else if ("+=".includes(event.key)) zoom(1.6);
    else if (event.key === "-") zoom(1 / 1.6);
    else return;
    event.preventDefault();
    soon();
  });
  for (const button of document.querySelectorAll("[data-by]")) button.onclick = () => (button.dataset.by === "all" ? fit() : zoom(button.dataset.by === "in" ? 1.6 : 1 / 1.6));
  for (const button of document.querySelectorAll("[data-go]")) {
    button.onclick = () => {
      fit(+button.dataset.go);
      map.scrollIntoView({ block: "center" });
    };
  }
  data.kinds.forEach((kind, k) => {
    const tick = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    tick.onchange = () => {
      tick.checked ? hidden.delete(k) : hidden.add(k);
      soon();
    };
    const dot = document.createElement("i"), label = document.createElement("label");
    dot.style.background = colour(k);
    label.append(tick, dot, kind || "no class");
    key.append(label);
  });
  key.hidden = !data.kinds.length;
  for (const image of images) image?.decode().then(soon, () => {});
  new ResizeObserver(soon).observe(canvas);
  fit();
  document.body.dataset.ready = "yes";
})();
