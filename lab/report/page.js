"use strict";
(() => {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("data").textContent);
  const places = [...document.querySelectorAll("[data-chart]")];
  let drawn = [];
  let printing = false;

  addEventListener("error", (e) => { root.dataset.error = e.message; });

  // Colours are the page's own, as they are now.
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const font = (px) => px + 'px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

  const format = (v) => {
    if (v == null || !isFinite(v)) return "";
    const a = Math.abs(v);
    const digits = a >= 100 || a === 0 ? 0 : a >= 10 ? 1 : a >= 1 ? 2 : 3;
    return Number(v.toFixed(digits)).toLocaleString("en-US", { maximumFractionDigits: 3 });
  };

  // One table of x and a column for each line, as uPlot wants it.
  const columns = (c) => uPlot.join(c.lines.map((l) => [l.points.map((p) => p[0]), l.points.map((p) => p[1])]));

  const range = (axis, room) => {
    let { min, max } = axis;
    if (axis.log) {
      const power = (v) => Math.pow(10, Math.floor(Math.log10(v) + 1e-9));
      const low = power(min), high = power(max);
      min = [5, 2, 1].map((m) => m * low).find((v) => v <= min) || low;
      max = [1, 2, 5, 10].map((m) => m * high).find((v) => v >= max * 1.1) || 10 * high;
      return [min, Math.max(max, min * 10)];
    }
    if (max <= min) max = min + 1;
    return [min, room ? max + (max - min) * 0.06 : max];
  };

  // Marks and levels: dashed lines with their texts, which never leave the plot and
  // never lie on each other.
  const notes = (c) => (u) => {
    const ctx = u.ctx, r = uPlot.pxRatio, { left, top, width, height } = u.bbox;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("muted");
    ctx.lineWidth = r;
    ctx.setLineDash([4 * r, 4 * r]);
    ctx.font = font(11 * r);
    ctx.textAlign = "left";
    ctx.textBaseline = "bottom";
    let right = -Infinity;
    for (const m of c.marks || []) {
      const x = u.valToPos(m.at, "x", true);
      if (x < left - 1 || x > left + width + 1) continue;
      ctx.beginPath();
      ctx.moveTo(x, top - 2 * r);
      ctx.lineTo(x, top + height);
      ctx.stroke();
      const w = ctx.measureText(m.text).width;
      const at = Math.min(x - 2 * r, left + width - w);
      if (at > right + 6 * r) {
        ctx.fillText(m.text, at, top - 4 * r);
        right = at + w;
      }
    }
    for (const l of c.levels || []) {
      const y = u.valToPos(l.at, "y", true);
      ctx.beginPath();
      ctx.moveTo(left, y);
      ctx.lineTo(left + width, y);
      ctx.stroke();
      ctx.textAlign = "right";
      ctx.fillText(l.text, left + width - 2 * r, y - 2 * r);
    }
    ctx.restore();
  };

  // What lies under the pointer, in words.
  const tip = (place, c) => {
    const box = document.createElement("div");
    box.className = "tip";
    box.hidden = true;
    place.append(box);
    return (u) => {
      const { idx, left, top } = u.cursor;
      box.hidden = idx == null || left < 0;
      if (box.hidden) return;
      const x = u.data[0][idx];
      const rows = [[null, (format(x) + " " + c.x.label).trim()]];
      const seen = [];
      c.lines.forEach((l, i) => {
        const near = l.as === "points" ? null : l.points.findLast((p) => p[0] <= x);
        const exact = u.data[i + 1][idx];
        const v = exact != null ? exact : near && near[1];
        if (v != null) seen.push([l, v]);
      });
      seen.forEach(([l, v], i) => {
        const below = c.stacked && seen[i + 1] ? seen[i + 1][1] : 0; // stacked from the last one upwards
        rows.push([l.hue, l.label + " " + format(v - below) + (c.unit ? " " + c.unit : "")]);
      });
      box.replaceChildren(...rows.map(([hue, text]) => {
        const row = document.createElement("div");
        if (hue) {
          const dot = document.createElement("i");
          dot.className = "f-" + hue;
          row.append(dot);
        }
        row.append(text);
        return row;
      }));
      const room = place.clientWidth - box.offsetWidth;
      const at = u.over.offsetLeft + left + 14;
      box.style.left = Math.max(0, at > room ? at - box.offsetWidth - 28 : at) + "px";
      box.style.top = u.over.offsetTop + Math.max(0, top - box.offsetHeight - 10) + "px";
    };
  };

  const paths = {
    line: () => uPlot.paths.linear(),
    step: () => uPlot.paths.stepped({ align: 1 }),
    area: () => uPlot.paths.linear(),
    steps: () => uPlot.paths.stepped({ align: 1 }),
    bars: () => uPlot.paths.bars({ size: [0.9, 40], align: 1 }),
    points: () => () => null,
  };

  const series = (l, c) => {
    const stroke = colour(l.hue);
    const filled = l.as === "area" || l.as === "steps" || l.as === "bars";
    return {
      label: l.label,
      stroke,
      width: filled ? 1 : l.width,
      fill: filled ? stroke : undefined,
      alpha: l.width > 3 ? 0.5 : 1,
      dash: l.dash,
      paths: paths[l.as](),
      spanGaps: l.as !== "bars",
      points: l.as === "points"
        ? { show: true, size: 4, fill: stroke, width: 0 }
        : { show: l.as === "line" && l.points.length < 20, size: 6, fill: stroke, width: 0 },
    };
  };

  const draw = (place) => {
    const c = charts[place.dataset.chart];
    const width = printing ? (place.closest(".one") ? 680 : 330) : place.clientWidth;
    const height = c.small ? 190 : width < 500 ? 240 : 290;
    const axis = { stroke: colour("muted"), grid: { stroke: colour("grid"), width: 1 }, ticks: { stroke: colour("grid"), width: 1, size: 5 }, font: font(12) };
    place.replaceChildren();
    const hover = tip(place, c);
    const y = range(c.y, true);
    const whole = c.y.whole ? { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000, 100000] } : {};
    // On a logarithmic axis the powers of ten have labels and lines, and more where there
    // are few of them.
    const marked = (_, v) => v.map((s) => {
      const m = Math.round(s / Math.pow(10, Math.floor(Math.log10(s) + 1e-9)));
      return m === 1 || m === 10 || Math.log10(y[1] / y[0]) < 2.4 && (m === 2 || m === 5) ? s : null;
    });
    const logged = c.y.log ? { filter: marked, grid: { ...axis.grid, filter: marked }, ticks: { ...axis.ticks, filter: marked } } : {};
    const u = new uPlot({
      width, height,
      padding: [c.marks ? 18 : 8, 24, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: false, y: false, setScale: false }, y: false },
      scales: { x: { time: false, range: range(c.x) }, y: { distr: c.y.log ? 3 : 1, log: 10, range: () => y } },
      axes: [
        { ...axis, label: c.x.label, labelFont: font(12), labelSize: 18, size: 28, gap: 3, space: 60, values: (_, v) => v.map(format) },
        {
          ...axis, gap: 3, space: 28,
          values: (_, v) => v.map(format),
          size: (_, v) => Math.max(26, 14 + 7 * Math.max(0, ...(v || []).map((s) => (s || "").length))),
          ...logged, ...whole,
        },
      ],
      series: [{}, ...c.lines.map((l) => series(l, c))],
      hooks: {
        draw: [notes(c), (self) => {
          place.dataset.drawn = self.data.slice(1).reduce((n, d) => n + d.filter((v) => v != null).length, 0);
          root.dataset.drawn = places.filter((p) => p.dataset.drawn > 0).length + "/" + places.length;
        }],
        setCursor: [hover],
      },
    }, columns(c), place);
    return u;
  };

  const drawAll = () => {
    drawn.forEach((u) => u.destroy());
    drawn = places.map(draw);
  };

  // The theme: the system's until the reader says otherwise.
  const button = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "system") + 1) % themes.length];
    if (next === "system") delete root.dataset.theme; else root.dataset.theme = next;
    button.querySelector("span").textContent = next;
    drawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

  let width = innerWidth, waiting = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => {
      if (!printing && innerWidth !== width) {
        width = innerWidth;
        drawAll();
      }
    });
  });

  // Paper is white, and has a width of its own.
  let theme;
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    printing = true;
    root.dataset.theme = "light";
    document.querySelectorAll("section details").forEach((d) => { d.open = true; });
    drawAll();
  });
  addEventListener("afterprint", () => {
    printing = false;
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    drawAll();
  });

  drawAll();
})();
