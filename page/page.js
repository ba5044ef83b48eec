// The live page: it takes the transport's events, keeps the last five minutes of them, and
// shows both. Whatever the server says becomes text, never markup.
"use strict";
(() => {
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const KEEP = 300, MANY = 200, MINUTE = 60, RETRY = 5000;
  const STATES = ["leased", "idle", "dialing", "draining"];
  const actions = document.body.dataset.actions;

  let T = berthText[root.lang] || berthText.en;
  const say = (text, ...args) => text.replace(/\{(\d)\}/g, (_, i) => args[i]);
  const plain = (text, ...args) => say(text, ...args.map((n) => num(n)));

  // listed has the texts whose number is not 0.
  const listed = (texts, ...args) => texts.map((text, i) => (args[i] ? say(text, num(args[i])) : "")).filter(Boolean).join(T.comma) || T.none;

  // ---- numbers ----

  let formats;
  const setFormats = () => {
    formats = [0, 1, 2].map((d) => new Intl.NumberFormat(root.lang, { maximumFractionDigits: d }));
  };
  setFormats();
  const num = (v) => formats[0].format(v);
  const rate = (v) => (v == null ? "–" : formats[v >= 100 ? 0 : v >= 10 ? 1 : 2].format(v));
  const percent = (v) => (v == null ? "–" : formats[v > 0.99 && v < 1 ? 1 : 0].format(v > 0.99 && v < 1 ? Math.floor(v * 1000) / 10 : v * 100) + "%");
  const pad = (v) => String(v).padStart(2, "0");
  const span = (ns) => {
    if (ns == null) return "–";
    const three = (v, unit) => formats[v >= 100 ? 0 : v >= 10 ? 1 : 2].format(v) + " " + unit;
    if (ns <= 0) return "0 ms";
    if (ns < 1e6) return three(ns / 1e3, "µs");
    if (ns < 1e9) return three(ns / 1e6, "ms");
    if (ns < 60e9) return three(ns / 1e9, "s");
    const s = Math.round(ns / 1e9);
    return s < 3600 ? Math.floor(s / 60) + "m " + pad(s % 60) + "s" : Math.floor(s / 3600) + "h " + pad(Math.floor(s / 60) % 60) + "m";
  };
  const clock = (t, seconds) => {
    const d = new Date(t * 1000);
    return pad(d.getHours()) + ":" + pad(d.getMinutes()) + (seconds ? ":" + pad(d.getSeconds()) : "");
  };

  // ---- nodes ----

  const el = (tag, attrs, ...children) => {
    const e = document.createElement(tag);
    for (const [name, value] of Object.entries(attrs || {})) if (value != null) e.setAttribute(name, value);
    e.append(...children);
    return e;
  };
  const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const attr = (node, name, value) => { if (node.getAttribute(name) !== value) node.setAttribute(name, value); };

  // fill makes a table's rows be these. A cell is a text, or has class, chip and node; nodes
  // that are there are used again.
  const fill = (tbody, rows, labels) => {
    while (tbody.rows.length > rows.length) tbody.deleteRow(-1);
    rows.forEach((cells, i) => {
      const tr = tbody.rows[i] || tbody.insertRow();
      cells.forEach((cell, j) => {
        const td = tr.cells[j] || tr.insertCell();
        const c = cell != null && typeof cell === "object" ? cell : { text: cell };
        attr(td, "class", c.class || "");
        if (labels) attr(td, "data-label", labels[j]);
        if (c.usage) return usage(td, c.usage);
        if (!td.firstChild) td.append(el("span"));
        set(td.firstChild, c.text == null ? "" : String(c.text));
        if (c.chip && !td.querySelector(".chip")) td.append(el("span", { class: "chip" + (c.warn ? " warn" : "") }));
        const chip = td.querySelector(".chip");
        if (chip && c.chip) set(chip, c.chip);
        else if (chip) chip.remove();
      });
    });
  };
  const usage = (td, share) => {
    let bar = td.querySelector("i");
    if (!bar) {
      bar = el("i", { class: "leased" });
      td.append(el("div", { class: "usage" }, el("span", { class: "track", "aria-hidden": "true" }, bar), el("span")));
    }
    bar.style.width = Math.min(100, share * 100) + "%";
    bar.className = share >= 0.8 ? "waiting" : "leased";
    set(td.querySelector(".usage > span:last-child"), percent(share));
  };
  const names = (id) => [...$(id + "-columns").cells].map((th) => th.textContent);
  const columns = (tr, names) => tr.replaceChildren(...names.map((name) => el("th", { scope: "col" }, name)));

  // ---- what was told ----

  let feed = "", last = 0, ids = [], rest = null;
  let ended = false;
  const entries = new Map(); // by id
  let total = []; // samples of all endpoints together
  const none = { requests: 0, reused: 0, leased: 0, idle: 0, dialing: 0, draining: 0, waiting: 0, wait: null };

  // since is what was counted between two looks at an endpoint, which may have begun anew.
  const since = (from, to) => {
    if (to.requests < from.requests) from = none;
    const had = new Map((from.wait || []).map((b) => [b.below, b.count]));
    const waits = new Map();
    for (const b of to.wait || []) {
      const n = b.count - (had.get(b.below) || 0);
      if (n > 0) waits.set(b.below, n);
    }
    return { requests: to.requests - from.requests, reused: Math.max(0, to.reused - from.reused), waits };
  };
  const together = (list) => {
    const sum = { requests: 0, reused: 0, waits: new Map() };
    for (const d of list) {
      sum.requests += d.requests;
      sum.reused += d.reused;
      for (const [below, n] of d.waits) sum.waits.set(below, (sum.waits.get(below) || 0) + n);
    }
    return sum;
  };
  // quantile is over all requests: those that did not have to wait count as 0.
  const quantile = (d, q) => {
    const waits = [...d.waits].sort((a, b) => a[0] - b[0]);
    const waited = waits.reduce((n, w) => n + w[1], 0);
    let seen = Math.max(0, d.requests - waited);
    const rank = q * (seen + waited);
    if (seen + waited === 0) return null;
    if (seen >= rank) return 0;
    for (const [below, n] of waits) if ((seen += n) >= rank) return below;
    return waits[waits.length - 1][0];
  };
  const keep = (list, sample) => {
    list.push(sample);
    if (list.length > KEEP) list.shift();
  };
  const measure = (sample, d, seconds) => {
    sample.rate = d ? d.requests / seconds : null;
    sample.p50 = d ? quantile(d, 0.5) : null;
    sample.p99 = d ? quantile(d, 0.99) : null;
    return sample;
  };

  const take = (m) => {
    const v = JSON.parse(m.data);
    const name = m.lastEventId.split("-")[0];
    if (name !== feed) {
      feed = name;
      ended = false;
      last = 0;
      ids = [];
      total = [];
      for (const id of [...entries.keys()]) drop(id);
    }
    if (v.t < last) { // the clock was set back: the charts begin anew
      last = 0;
      total = [];
      for (const entry of entries.values()) entry.samples = [];
    }
    if (!ended) status("live");
    if (v.t === last) return;
    const seconds = last ? (v.t - last) / 1000 : 0;
    if (v.rest) rest = v.rest;
    if (v.ids) {
      ids = v.ids;
      const there = new Set(ids);
      for (const id of [...entries.keys()]) if (!there.has(id)) drop(id);
    }
    for (const e of v.endpoints || []) {
      const had = entries.get(e.id);
      if (had) had.now = e;
      else entries.set(e.id, { id: e.id, now: e, samples: [], before: last ? none : null });
    }
    const sums = { t: v.t / 1000, leased: 0, idle: 0, dialing: 0, draining: 0, waiting: 0, max: (rest && rest.max) || null };
    const gap = seconds > 5 ? { t: last / 1000 + 1 } : null;
    const changes = [];
    for (const entry of entries.values()) {
      const s = entry.now.stats;
      const d = entry.before && seconds ? since(entry.before, s) : null;
      if (d) changes.push(d);
      const sample = { t: v.t / 1000, was: entry.before || s, waiting: s.waiting, max: entry.now.max || null };
      for (const state of STATES) sums[state] += sample[state] = s[state];
      sums.waiting += s.waiting;
      if (gap && entry.samples.length) keep(entry.samples, { ...gap, was: entry.before });
      keep(entry.samples, measure(sample, d, seconds));
      entry.before = s;
    }
    if (gap && total.length) keep(total, gap);
    keep(total, measure(sums, seconds ? together(changes) : null, seconds));
    last = v.t;
    render();
  };
  const drop = (id) => {
    const e = entries.get(id);
    if (e && e.ui) { e.ui.row.remove(); if (e.ui.detail) e.ui.detail.remove(); }
    entries.delete(id);
  };

  // minute is what was counted over the last minute, and in how many seconds.
  const minute = (entry) => {
    const first = entry.samples[Math.max(0, entry.samples.length - MINUTE)];
    return since(first.was, entry.now.stats);
  };

  const status = (state, text) => {
    const p = $("status");
    p.dataset.state = state;
    set(p, text || { live: T.live, lost: T.lost, end: T.ended, wait: T.connecting }[state]);
  };

  let source = null, again = 0;
  const connect = () => {
    clearTimeout(again);
    source = new EventSource("events");
    source.onmessage = take;
    source.onerror = () => {
      if (!ended) status("lost");
      if (source.readyState === EventSource.CLOSED) again = setTimeout(connect, RETRY); // else it tries again itself
    };
    source.addEventListener("end", () => {
      source.close();
      ended = true;
      status("end");
      again = setTimeout(connect, RETRY); // another program may take its place
    });
  };

  // ---- charts ----

  // Colours as they are on the ground in use; a canvas knows no variables.
  const colour = (name) => {
    const probe = el("span");
    probe.style.color = "var(--" + name + ")";
    document.body.append(probe);
    const c = getComputedStyle(probe).color;
    probe.remove();
    return c;
  };
  const font = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans SC", sans-serif';
  const steps = (max) => [1, 2, 5].flatMap((m) => Array.from({ length: max }, (_, i) => m * 10 ** i)).sort((a, b) => a - b);
  const kinds = [
    { id: "conns", title: "chartConns", lines: ["leased", "idle", "dialing", "draining", "limit"], stacked: true, show: num, incrs: steps(7), size: 46 },
    { id: "waiting", title: "chartWaiting", lines: ["waiting"], label: "atOnce", filled: true, show: num, incrs: steps(7), size: 46 },
    { id: "rate", title: "chartRate", lines: ["rate"], label: "rateLine", filled: true, show: rate, size: 46 },
    { id: "wait", title: "chartWait", lines: ["p50", "p99"], show: span, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500].flatMap((m) => [m * 1e3, m * 1e6, m * 1e9]).sort((a, b) => a - b), size: 62 },
  ];
  const charts = [];

  const samples = () => {
    const scope = $("scope").value;
    return scope && entries.has(scope) ? entries.get(scope).samples : total;
  };
  const data = (kind, list) => {
    const x = list.map((s) => s.t);
    if (!kind.stacked) return [x, ...kind.lines.map((k) => list.map((s) => s[k] ?? null))];
    // The topmost area is drawn first; each hides the lower part of the one before.
    const heights = STATES.map((_, i) => list.map((s) => (s.leased == null ? null : STATES.slice(0, i + 1).reduce((n, k) => n + s[k], 0))));
    return [x, ...heights.reverse(), list.map((s) => s.max ?? null)];
  };
  const legend = (c, at) => {
    const list = samples();
    const s = list[at == null ? list.length - 1 : at] || {};
    c.kind.lines.forEach((k, i) => {
      const v = k === "limit" ? s.max : s[k];
      set(c.values[i], v == null ? "–" : c.kind.show(v));
      if (k === "limit") c.values[i].parentNode.hidden = v == null;
    });
    set(c.time, at == null || !s.t ? "" : clock(s.t, true));
  };
  const draw = (c) => {
    const { kind } = c;
    const names = kind.stacked ? [...STATES].reverse() : kind.lines;
    const grid = colour("grid"), muted = colour("muted");
    const axis = { stroke: muted, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } };
    const lines = names.map((k) => {
      const stroke = colour(k);
      const filled = kind.stacked || kind.filled;
      return { stroke, width: kind.stacked ? 0 : 1.75, fill: filled ? (kind.stacked ? stroke : stroke.replace("rgb(", "rgba(").replace(")", ", 0.18)")) : undefined,
        points: { show: false }, spanGaps: false };
    });
    if (kind.stacked) lines.push({ stroke: muted, width: 1.5, dash: [6, 4], points: { show: false } });
    const list = samples();
    if (c.plot) c.plot.destroy();
    c.plot = new uPlot({
      width: c.place.clientWidth, height: c.place.clientHeight, padding: [6, 10, 0, 0], legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false, setScale: false }, sync: { key: "berth" }, points: { size: 6 } },
      scales: {
        x: { time: false, range: () => { const end = last / 1000 || 1; return [end - KEEP, end]; } },
        y: { range: (_, lo, hi) => [0, hi > 0 ? hi * 1.08 : kind.id === "wait" ? 1e6 : 1] },
      },
      axes: [
        { ...axis, size: 26, incrs: [60], values: (_, splits) => splits.map((t) => clock(t)) },
        { ...axis, size: kind.size, incrs: kind.incrs, values: (_, splits) => splits.map((v) => kind.show(v)) },
      ],
      series: [{}, ...lines],
      hooks: { setCursor: [(u) => legend(c, u.cursor.idx ?? null)] },
    }, data(kind, list), c.place);
    legend(c, null);
  };
  const drawAll = () => charts.forEach(draw);
  const sizes = new ResizeObserver((list) => {
    for (const { target } of list) {
      const c = charts.find((c) => c.place === target);
      if (c && c.plot && target.clientWidth && target.clientWidth !== c.plot.width) c.plot.setSize({ width: target.clientWidth, height: target.clientHeight });
    }
  });
  const makeCharts = () => {
    for (const c of charts) if (c.plot) c.plot.destroy();
    charts.length = 0;
    $("charts").replaceChildren();
    for (const kind of kinds) {
      const c = { kind, values: kind.lines.map(() => el("b")), place: el("div", { class: "plot", role: "img", id: "chart-" + kind.id }), time: el("time") };
      const keys = kind.lines.map((k, i) => el("li", null, el("i", { class: "key " + (k === "limit" ? "line limit" : k), "aria-hidden": "true" }),
        (kind.label ? T[kind.label] : T[k] || k) + " ", c.values[i]));
      $("charts").append(el("figure", { class: "chart" }, el("h3", null, T[kind.title], c.time), el("ul", null, ...keys), c.place));
      c.place.closest("figure").style.margin = "0";
      charts.push(c);
    }
    drawAll();
    sizes.disconnect();
    charts.forEach((c) => sizes.observe(c.place));
  };
  const updateCharts = () => {
    const list = samples();
    for (const c of charts) {
      c.plot.setData(data(c.kind, list));
      c.place.dataset.points = list.length;
      if (c.plot.cursor.idx == null) legend(c, null);
      attr(c.place, "aria-label", T[c.kind.title] + ": " + c.kind.lines.map((k, i) => (c.kind.label ? T[c.kind.label] : T[k] || k) + " " + c.values[i].textContent).join(", "));
    }
  };
  const updateScope = () => {
    const select = $("scope");
    const want = ["", ...ids.filter((id) => entries.has(id))];
    if (want.join() === [...select.options].map((o) => o.value).join()) return;
    const chosen = select.value;
    select.replaceChildren(...want.map((id) => el("option", { value: id }, id ? label(entries.get(id).now) : T.all)));
    select.value = want.includes(chosen) ? chosen : "";
  };
  const label = (e) => e.name + (e.group ? ", " + say(T.group, e.group) : "");

  // ---- endpoints ----

  const failed = (s) => s.dials.failed + s.dials.exhausted + s.dials.refused + Object.values(s.rejected).reduce((a, b) => a + b, 0);
  const held = (s) => s.leased + s.idle + s.dialing + s.draining;
  const recent = (entry) => entry.samples[entry.samples.length - 1] || {};
  const sortable = {
    name: (x) => label(x.now), state: (x) => held(x.now.stats), waitingColumn: (x) => x.now.stats.waiting, rate: (x) => recent(x).rate ?? -1,
    waitColumn: (x) => x.p99 ?? -1, reuseColumn: (x) => x.reuse ?? -1, failures: (x) => failed(x.now.stats),
  };
  let sort = { by: "name", down: false };

  const makeColumns = () => {
    $("columns").replaceChildren(...Object.keys(sortable).map((by) => {
      const button = el("button", { type: "button", title: by === "failures" ? T.failuresHint : null }, T[by]);
      button.addEventListener("click", () => {
        sort = { by, down: sort.by === by ? !sort.down : by !== "name" };
        markSort();
        order();
      });
      return el("th", { scope: "col", "data-by": by, class: by === "name" || by === "state" ? null : "n" }, button);
    }));
    markSort();
  };
  const markSort = () => {
    for (const th of $("columns").cells) attr(th, "aria-sort", th.dataset.by === sort.by ? (sort.down ? "descending" : "ascending") : "none");
  };

  const makeRow = (entry) => {
    const ui = { button: el("button", { type: "button", class: "open-row", "aria-expanded": "false" }), group: el("span", { class: "chip" }), paused: el("span", { class: "chip warn" }, T.paused),
      why: el("span", { class: "why-line" }), track: el("div", { class: "track", role: "img" }), parts: STATES.map((k) => el("i", { class: k })), of: el("span"),
      waiting: el("span"), oldest: el("small"), rate: el("span"), p99: el("span"), reuse: el("span"), failures: el("span") };
    ui.track.append(...ui.parts);
    const cell = (name, ...nodes) => el("td", { class: "cell n", "data-label": T[name] }, ...nodes);
    ui.row = el("tr", { class: "row", "data-id": entry.id }, el("th", { scope: "row" }, ui.button, ui.group, ui.paused, ui.why), el("td", null, el("div", { class: "bar" }, ui.track, ui.of)),
      cell("waitingColumn", ui.waiting, " ", ui.oldest), cell("rate", ui.rate), cell("waitColumn", ui.p99), cell("reuseColumn", ui.reuse), cell("failures", ui.failures));
    ui.button.addEventListener("click", () => toggle(entry));
    entry.ui = ui;
    if (entry.open) open(entry);
  };
  const updateRow = (entry) => {
    if (!entry.ui) makeRow(entry);
    const { ui, now } = entry, s = now.stats;
    set(ui.button, now.name);
    ui.group.hidden = !now.group;
    if (now.group) set(ui.group, say(T.group, now.group));
    ui.paused.hidden = !now.paused;
    ui.why.hidden = !now.reason || now.reason === "paused";
    if (now.reason) set(ui.why, T.reasons[now.reason] || now.reason);
    const scale = Math.max(now.max || 0, held(s), now.max ? 0 : s.peak_conns, 1);
    STATES.forEach((k, i) => { ui.parts[i].style.width = (100 * s[k]) / scale + "%"; });
    attr(ui.track, "aria-label", plain(T.stateLabel, s.leased, s.idle, s.dialing, s.draining));
    attr(ui.track, "title", ui.track.getAttribute("aria-label"));
    set(ui.of, now.max ? plain(T.ofLimit, held(s), now.max) : num(held(s)));
    set(ui.waiting, num(s.waiting));
    ui.waiting.className = s.waiting ? "hot" : "";
    set(ui.oldest, s.waiting ? span(s.oldest_wait) : "");
    attr(ui.oldest, "title", s.waiting ? say(T.oldest, span(s.oldest_wait)) : "");
    set(ui.rate, rate(recent(entry).rate));
    set(ui.p99, span(entry.p99));
    set(ui.reuse, percent(entry.reuse));
    const bad = failed(s);
    set(ui.failures, num(bad));
    ui.failures.className = bad ? "hot" : "";
  };
  const words = () => $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = () => {
    const want = words();
    const list = ids.map((id) => entries.get(id)).filter((x) => x && want.every((w) => label(x.now).toLowerCase().includes(w)));
    const key = sortable[sort.by];
    list.sort((a, b) => {
      const x = key(a), y = key(b);
      const d = typeof x === "string" ? x.localeCompare(y) : x - y;
      return (sort.down ? -d : d) || label(a.now).localeCompare(label(b.now));
    });
    return list;
  };
  const order = () => {
    const list = shown(), rows = $("rows"), focus = document.activeElement;
    const want = list.flatMap((x) => (x.ui.detail ? [x.ui.row, x.ui.detail] : [x.ui.row]));
    if (want.length !== rows.children.length || want.some((n, i) => rows.children[i] !== n)) {
      rows.replaceChildren(...want);
      if (focus && focus !== document.activeElement && rows.contains(focus)) focus.focus({ preventScroll: true });
    }
    const n = [...entries.keys()].length;
    set($("count"), n ? (list.length < n ? plain(T.shown, list.length, n) : num(n)) + (rest && rest.more ? plain(T.more, rest.more) : "") : "");
    $("none").hidden = list.length > 0;
    set($("none"), n ? T.noMatch : T.noEndpoints);
  };
  const toggle = (entry) => {
    entry.open = !entry.open;
    if (entry.open) open(entry);
    else {
      entry.ui.button.setAttribute("aria-expanded", "false");
      entry.ui.row.classList.remove("open");
      entry.ui.detail.remove();
      entry.ui.detail = entry.ui.parts2 = entry.detail = null;
    }
    order();
  };

  // ---- one endpoint, closely ----

  const open = (entry) => {
    const { ui } = entry;
    ui.button.setAttribute("aria-expanded", "true");
    ui.row.classList.add("open");
    const p = ui.parts2 = { why: el("div", { class: "why" }), facts: el("dl", { class: "facts" }), leases: el("tbody"), idle: el("tbody"), policy: el("tbody"),
      leasesNote: el("small"), idleNote: el("small"), generation: el("small"), steer: el("div", { class: "steer" }) };
    const follow = el("button", { type: "button" }, T.follow);
    follow.addEventListener("click", () => {
      $("scope").value = entry.id;
      drawAll();
      updateCharts();
      $("charts-title").scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    });
    p.steer.append(follow);
    if (actions !== "off") {
      p.buttons = {};
      for (const name of Object.keys(T.actions)) {
        const b = p.buttons[name] = el("button", { type: "button", "data-action": name, title: T.actions[name][1] }, T.actions[name][0]);
        b.addEventListener("click", () => ask(entry, name));
        p.steer.append(b);
      }
    }
    const table = (cls, names, tbody) => el("div", { class: "scroll" }, el("table", { class: cls }, el("thead", null, el("tr", null, ...names.map((n) => el("th", { scope: "col" }, n)))), tbody));
    p.leaseNames = [T.request, T.phase, T.held, T.lastByte, T.unread, T.site];
    ui.detail = el("tr", { class: "detail" }, el("td", { colspan: "7" }, el("div", { class: "panel", role: "group", "aria-label": say(T.details, label(entry.now)) },
      p.why, p.steer, p.facts,
      p.leasesBox = el("details", { open: "", class: "of-leases" }, el("summary", null, T.leases + " ", p.leasesNote), table("leases", p.leaseNames, p.leases)),
      p.idleBox = el("details", null, el("summary", null, T.idleConns + " ", p.idleNote), table("", [T.local, T.remote, T.since], p.idle)),
      el("details", { class: "of-policy" }, el("summary", null, T.policy + " ", p.generation), table("", [T.setting, T.value, T.from], p.policy)))));
    updateDetail(entry);
    load(entry);
  };
  const load = async (entry) => {
    if (entry.loading) return;
    entry.loading = true;
    try {
      const r = await fetch("endpoint?id=" + entry.id, { cache: "no-store" });
      entry.detail = r.ok ? await r.json() : null;
    } catch { /* the status says it */ } finally {
      entry.loading = false;
    }
    if (entry.open && entry.ui && entry.ui.detail) updateDetail(entry);
  };
  const advice = (now) => {
    if (!T.advice) return now.advice;
    const text = T.advice[now.verdict] || T.advice[now.reason];
    return text ? say(text, (/MaxConns to (\d+)/.exec(now.advice) || [])[1] || "…") : now.advice;
  };
  const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const valueText = (v) => {
    if (v == null || v === false) return T.none;
    return typeof v === "object" ? Object.entries(v).map(([k, x]) => k + " " + x).join(", ") : String(v);
  };
  const sourceText = (s) => T.sources[s] || (T.rule ? s.replace(/^rule (\d+)/, T.rule) : s);
  const updateDetail = (entry) => {
    const p = entry.ui.parts2, { now, detail } = entry, s = now.stats;
    p.why.hidden = !now.reason;
    if (now.reason) {
      const texts = [sentence(say(T.whyText, T.reasons[now.reason] || now.reason, now.limit) + (now.set_by ? say(T.setBy, sourceText(now.set_by)) : "")),
        [T.verdicts[now.verdict], sentence(advice(now))].filter(Boolean).join(" ")];
      while (p.why.children.length < 3) p.why.append(el(p.why.children.length ? "p" : "h3"));
      [T.why, ...texts].forEach((text, i) => set(p.why.children[i], text));
    }
    if (p.buttons) {
      p.buttons.pause.hidden = !!now.paused;
      p.buttons.resume.hidden = !now.paused;
    }
    const hold = (q) => span(quantile({ requests: 0, waits: new Map((s.hold || []).map((b) => [b.below, b.count])) }, q));
    const closes = Object.entries(s.closes).sort((a, b) => b[1] - a[1]).map(([k, n]) => k + " " + num(n)).join(T.comma);
    const facts = [[T.requests, plain(T.requestsText, s.requests, s.reused)], [T.peak, plain(T.peakText, s.peak_conns, s.peak_leased, s.peak_waiting)],
      [T.hold, s.hold ? say(T.holdText, hold(0.5), hold(0.99)) : T.none], [T.dials, listed(T.dialsText, s.dials.ok, s.dials.failed, s.dials.cancelled, s.dials.exhausted, s.dials.refused)],
      [T.rejected, listed(T.rejectedText, s.rejected.timeout, s.rejected.queue_full, s.rejected.would_queue, s.rejected.backoff, s.rejected.closed)],
      [T.closes, closes || T.none], [T.closedFirst, listed(T.closedFirstText, s.closed_by_us, s.closed_by_peer)],
      [T.bodies, listed(T.bodiesText, s.leaks.suspect, s.leaks.suspected, s.leaks.reclaimed)]];
    facts.forEach(([name, value], i) => {
      if (!p.facts.children[i]) p.facts.append(el("div", null, el("dt"), el("dd")));
      set(p.facts.children[i].firstChild, name);
      set(p.facts.children[i].lastChild, value);
    });
    const leases = (detail && detail.leases) || [];
    p.leasesBox.hidden = !leases.length;
    set(p.leasesNote, leases.length < s.leased && leases.length >= MANY ? plain(T.leasesMore, leases.length) : num(s.leased));
    fill(p.leases, leases.map((l) => [{ text: l.method + " " + l.path, class: "path mono" }, { text: T.phases[l.phase] || l.phase, chip: l.suspect ? T.suspect : null, warn: true },
      span(l.held), l.since_byte < 0 ? T.never : say(T.ago, span(l.since_byte)), l.unread ? { text: span(l.unread), class: "hot" } : "–",
      { text: l.site || T.unknownSite, class: "site mono" }]), p.leaseNames);
    const idle = (detail && detail.conns) || [];
    p.idleBox.hidden = !idle.length;
    set(p.idleNote, num(s.idle));
    fill(p.idle, idle.map((c) => [{ text: c.local, class: "mono" }, { text: c.remote, class: "mono" }, span(c.since)]));
    if (detail) {
      set(p.generation, say(T.generation, detail.policy.generation));
      const from = detail.policy.from, names = Object.keys(from).sort((a, b) => (from[a] === "default") - (from[b] === "default") || a.localeCompare(b));
      fill(p.policy, names.map((n) => [{ text: n, class: "mono" }, { text: valueText(detail.policy.policy[n]), class: "mono" }, sourceText(from[n])]));
    }
  };

  // ---- actions ----

  let asked = null, token = "";
  const toast = (text, bad) => {
    const t = $("toast");
    t.className = bad ? "bad" : "";
    set(t, text);
    clearTimeout(toast.timer);
    toast.timer = setTimeout(() => set(t, ""), 6000);
  };
  const ask = (entry, name) => {
    asked = { id: entry.id, name };
    const [title, text] = T.actions[name];
    set($("dialog-title"), title.replace("…", ""));
    set($("dialog-endpoint"), label(entry.now));
    set($("dialog-text"), text);
    set($("confirm"), title.replace("…", ""));
    $("dialog-limit").hidden = name !== "limit";
    $("limit").required = name === "limit";
    $("limit").value = entry.now.max || 0;
    $("dialog-token").hidden = actions !== "token" || token !== "";
    $("token").required = !$("dialog-token").hidden;
    $("token").value = "";
    $("dialog").showModal();
  };
  const act = async () => {
    const { id, name } = asked, title = T.actions[name][0].replace("…", "");
    if (!$("dialog-token").hidden) token = $("token").value;
    const body = { action: name, endpoint: id };
    if (name === "limit") body.max_conns = Math.trunc(Number($("limit").value));
    $("token").value = "";
    $("dialog").close();
    const headers = { "Content-Type": "application/json" };
    if (token) headers.Authorization = "Bearer " + token;
    try {
      const r = await fetch("actions", { method: "POST", headers, body: JSON.stringify(body) });
      const v = await r.json();
      if (r.status === 401) token = "";
      if (v.error) toast(say(T.refused, title, v.error), true);
      else toast(say(v.done ? T.done : T.begun, title));
    } catch {
      toast(say(T.unreachable, title), true);
    }
  };
  $("dialog").querySelector("form").addEventListener("submit", (e) => {
    e.preventDefault();
    act();
  });
  $("cancel").addEventListener("click", () => $("dialog").close());

  // ---- all of it ----

  const render = () => {
    if (document.hidden || !last) return;
    const s = total[total.length - 1];
    const rows = [...entries.values()];
    const minutes = rows.map((x) => {
      const d = minute(x);
      x.p99 = quantile(d, 0.99);
      x.reuse = d.requests ? d.reused / d.requests : null;
      return d;
    });
    const sum = together(minutes);
    const opened = s.leased + s.idle + s.dialing + s.draining;
    const add = (f) => rows.reduce((n, x) => n + f(x.now.stats), 0);
    const oldest = rows.reduce((n, x) => Math.max(n, x.now.stats.oldest_wait), 0);
    set($("tile-rate"), rate(s.rate));
    set($("tile-rate-more"), plain(T.requestsSoFar, add((v) => v.requests)));
    set($("tile-conns"), rest && rest.max ? plain(T.ofLimit, opened, rest.max) : num(opened));
    set($("tile-conns-more"), plain(T.usedIdle, s.leased, s.idle));
    set($("tile-waiting"), num(s.waiting));
    set($("tile-waiting-more"), s.waiting ? say(T.oldestWaits, span(oldest)) : T.nobodyWaits);
    $("tile-waiting-box").classList.toggle("alert", s.waiting > 0);
    set($("tile-wait"), span(quantile(sum, 0.99)));
    set($("tile-wait-more"), T.lastMinute);
    set($("tile-reuse"), percent(sum.requests ? sum.reused / sum.requests : null));
    set($("tile-reuse-more"), plain(T.dialled, add((v) => v.dials.ok)));
    if (rest) {
      const p = $("program");
      if (p.dataset.of !== rest.program + rest.pid + root.lang) {
        p.dataset.of = rest.program + rest.pid + root.lang;
        p.replaceChildren(rest.program, el("small", null, say(T.pid, String(rest.pid))));
      }
      document.title = (s.waiting ? "(" + num(s.waiting) + ") " : "") + rest.program + " · berth";
      $("ports-section").hidden = !rest.ports.length;
      fill($("ports"), rest.ports.map((u) => [{ text: u.destination || T.together, chip: u.budget ? T.budget : null }, { usage: u.ports ? (u.live + u.held) / u.ports : 0 },
        { text: num(u.live), class: "n" }, { text: num(u.held), class: "n" }, { text: num(u.ports), class: "n" }, { text: rate(u.rate), class: "n" }]), names("ports"));
      $("leaks-section").hidden = !rest.leaks.length;
      fill($("leaks"), rest.leaks.map((l) => [l.endpoint, { text: l.site || T.unknownSite, class: "mono" }, { text: num(l.suspected), class: "n" }, { text: num(l.reclaimed), class: "n" }]), names("leaks"));
    }
    rows.forEach(updateRow);
    order();
    updateScope();
    updateCharts();
    for (const x of rows) {
      if (!x.open) continue;
      updateDetail(x);
      load(x);
    }
  };

  const speak = () => {
    T = berthText[root.lang] || berthText.en;
    setFormats();
    for (const e of document.querySelectorAll("[data-t]")) set(e, T[e.dataset.t]);
    for (const e of document.querySelectorAll("[data-label]:not(td)")) e.setAttribute("aria-label", T[e.dataset.label]);
    $("filter").placeholder = T.filterHint;
    columns($("ports-columns"), [T.destination, T.used, T.liveColumn, T.heldColumn, T.total, T.rateColumn]);
    columns($("leaks-columns"), [T.endpointColumn, T.site, T.suspectedColumn, T.reclaimedColumn]);
    [...$("ports-columns").cells].slice(2).concat([...$("leaks-columns").cells].slice(2)).forEach((th) => th.classList.add("n"));
    $("ports").replaceChildren();
    $("leaks").replaceChildren();
    $("rows").replaceChildren();
    for (const x of entries.values()) x.ui = null;
    $("scope").replaceChildren();
    themeText();
    makeColumns();
    makeCharts();
    status(ended ? "end" : $("status").dataset.state);
    render();
  };
  const themeText = () => set($("theme"), say(T.theme, T.themes[root.dataset.theme || "auto"]));
  $("theme").addEventListener("click", () => {
    const next = { auto: "light", light: "dark", dark: "auto" }[root.dataset.theme || "auto"];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    berthChoice.set("theme", next);
    themeText();
    drawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  $("lang").addEventListener("click", () => {
    root.lang = root.lang === "zh" ? "en" : "zh";
    berthChoice.set("lang", root.lang);
    speak();
  });
  $("scope").addEventListener("change", () => { drawAll(); updateCharts(); });
  $("filter").addEventListener("input", order);
  $("filter").addEventListener("keydown", (e) => {
    if (e.key !== "Escape") return;
    $("filter").value = "";
    order();
  });
  addEventListener("keydown", (e) => {
    if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, select, textarea, dialog")) return;
    e.preventDefault();
    $("filter").focus();
  });
  $("rows").addEventListener("keydown", (e) => {
    if (!e.target.matches(".open-row")) return;
    const all = [...$("rows").querySelectorAll(".open-row")], at = all.indexOf(e.target);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[e.key];
    if (to == null || !all[to]) return;
    e.preventDefault();
    all[to].focus();
  });
  document.addEventListener("visibilitychange", render);

  speak();
  connect();
})();
