// The interactive charts. Data blocks and charts are in the page as JSON; nothing is fetched.
const $ = (selector, inside = document) => inside.querySelector(selector);
const $$ = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const read = (id) => JSON.parse($(`#data-${id}`).textContent);
// Three digits; powers of ten where there would be many zeros.
function short(x) {
  if (x === 0 || (Math.abs(x) >= 0.001 && Math.abs(x) < 1e4)) return String(+x.toPrecision(3));
  const [digits, power] = x.toExponential(1).split("e");
  return `${digits}·10${[...String(+power)].map((one) => (one === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[one])).join("")}`;
}

// ---- Packed arrays: the reverse of pack.py ----

async function unpack({ parts, gzip }) {
  const bytes = Uint8Array.from(atob(gzip), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const arrays = {};
  let at = 0;
  for (const part of parts) {
    const size = part.shape.reduce((a, b) => a * b, 1);
    const row = part.shape[part.shape.length - 1];
    const mask = part.short ? 0xff : 0xffff;
    const low = planes.subarray(at, at + size);
    const high = part.short ? null : planes.subarray(at + size, at + 2 * size);
    at += part.short ? size : 2 * size;
    const values = new Float64Array(size);
    for (let i = 0, code = 0; i < size; i++) {
      const step = low[i] + (high ? high[i] << 8 : 0);
      code = i % row ? (code + step) & mask : step;
      values[i] = code === mask ? NaN : part.low + (code / (mask - 1)) * (part.high - part.low);
    }
    arrays[part.name] = { values, shape: part.shape };
  }
  return arrays;
}

// The last axis of an array at these indices of all others.
function row({ values, shape }, ...indices) {
  const n = shape[shape.length - 1];
  const start = indices.reduce((offset, index, axis) => offset * shape[axis] + index, 0) * n;
  return values.subarray(start, start + n);
}

const at = (array, ...indices) => row(array, ...indices.slice(0, -1))[indices[indices.length - 1]];

// ---- Charts ----

let library = null;
// The library is text until the first chart is wanted, so that it costs the first paint nothing.
function vega() {
  if (!library) {
    library = new Promise((resolve) => {
      const script = document.createElement("script");
      script.type = "module"; // its names stay its own
      script.textContent = $("#library").textContent;
      addEventListener("vega", () => resolve(window.vegaEmbed), { once: true }); // it dispatches this when it is ready
      document.head.append(script);
    });
  }
  return library;
}

// A chart of the page, drawn when `set(data, signals)` is first called; `set` returns the view. `once(view)` is called
// after the first drawing.
function chart(figure, name, spec, once = () => {}) {
  let view = null;
  return {
    async set(data, signals = {}) {
      if (view) {
        for (const [name, value] of Object.entries(signals)) view.signal(name, value);
        for (const [name, rows] of Object.entries(data)) view.data(name, rows);
        await view.runAsync();
        return view;
      }
      const embed = await vega();
      const params = (spec.params || []).map((one) => (one.name in signals ? { ...one, value: signals[one.name] } : one));
      const whole = { ...spec, ...(spec.params && { params }), datasets: data };
      const made = await embed($(`[data-chart="${name}"]`, figure), whole, {
        mode: "vega-lite",
        renderer: "svg",
        ast: true, // expressions are interpreted: the page allows no evaluation of text
        tooltip: { theme: "page" }, // its colors are in style.css, and follow the reader's choice
        actions: false,
      });
      view = made.view;
      once(view);
      return view;
    },
  };
}

// A figure's controls: their values, and a call whenever one of them moves. Calls are joined to one a frame.
function controls(figure, show) {
  let waiting = false;
  const state = () =>
    Object.fromEntries(
      $$("[name]", figure).map((input) => [
        input.name,
        input.type === "checkbox" ? input.checked : input.type === "range" ? +input.value : input.value,
      ]),
    );
  const call = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(async () => {
      waiting = false;
      await show(state());
      figure.dataset.drawn = String(+(figure.dataset.drawn || 0) + 1);
    });
  };
  figure.addEventListener("input", call);
  call();
  return call;
}

const say = (figure, name, text) => ($(`output[data-of="${name}"]`, figure).textContent = text);
// Writes what the pointer is at: `name` is the chart's selection, `words` of its fields.
const pointed = (figure, name, words) => (view) =>
  view.addSignalListener(name, (_, fields) => say(figure, "pointed", fields.who ? words(fields) : "nothing"));
const describe = (figure, text) => ($(".status", figure).textContent = text);

// ---- The figures ----

const figures = {
  async paths(figure) {
    const block = read("paths");
    const arrays = await unpack(block.packed);
    const [map, descent] = ["surface", "descent"].map((name) => chart(figure, name, block.charts[name]));
    const valleys = block.surfaces.filter((one) => one.name.startsWith("valley")).length;
    const others = { Rosenbrock: valleys, Beale: valleys + 1, saddle: valleys + 2 };
    const contours = block.surfaces.map(({ contours }) =>
      contours.flatMap(({ lines }, level) =>
        lines.flatMap((line, l) => line.map(([x, y], i) => ({ x, y, i, level, line: `${level}-${l}` }))),
      ),
    );
    let contoured = -1;
    controls(figure, async (now) => {
      const number = others[now.surface] ?? now.condition;
      const surface = block.surfaces[number];
      const [left, right, low, high] = surface.window;
      $(".condition", figure).hidden = now.surface in others;
      say(figure, "condition", surface.name.replace("valley, κ = ", ""));
      say(figure, "factor", `× ${short(block.factor[now.factor])}`);
      say(figure, "momentum", short(block.momenta[now.momentum]));
      say(figure, "step", String(now.step));
      const paths = [];
      const heads = [];
      block.rules.forEach((rule, r) => {
        const lr = block.base[r][number] * block.factor[now.factor];
        say(figure, `rule-${rule.name}`, `lr ${short(lr)}`);
        if (!now[`rule-${rule.name}`]) return;
        const index = [r, number, now.factor, now.momentum];
        const [xs, ys, fs] = ["x", "y", "f"].map((name) => row(arrays[name], ...index));
        let seen = true;
        for (let step = 0; step <= now.step; step++) {
          seen = seen && Number.isFinite(xs[step]) && Number.isFinite(ys[step]);
          const place = { rule: rule.name, who: rule.title, step, f: Number.isFinite(fs[step]) ? 10 ** fs[step] : null };
          place.x = seen ? left + xs[step] * (right - left) : null;
          place.y = seen ? low + ys[step] * (high - low) : null;
          paths.push(place);
        }
        heads.push({ ...paths[paths.length - 1] });
      });
      const ground =
        contoured === number ? {} : { contours: contours[number], minima: surface.minima.map(([x, y]) => ({ x, y })) };
      contoured = number;
      const window = { xLow: left, xHigh: right, yLow: low, yHigh: high };
      await Promise.all([map.set({ ...ground, paths, heads }, window), descent.set({ paths }, { last: Math.max(1, now.step) })]);
      const ended = heads.map((head) => `${head.who} ${head.f === null ? "has diverged" : `f = ${short(head.f)}`}`);
      const on = { Rosenbrock: "Rosenbrock’s surface", Beale: "Beale’s surface", saddle: "the saddle" }[now.surface];
      describe(figure, `On ${on ?? surface.name.replace("valley, ", "the valley with ")}, f = ${surface.formula}, after ${now.step} steps: ${ended.join("; ") || "no rule chosen"}.`);
    });
  },

  async plane(figure) {
    const block = read("plane");
    const arrays = await unpack(block.packed);
    let shaded = -1;
    const point = (_, item) => {
      if (!item || !item.datum || item.datum.l === undefined) return;
      $('[name="lr"]', figure).value = item.datum.l;
      $('[name="momentum"]', figure).value = item.datum.m;
      call();
    };
    const listen = (view) => view.addEventListener("pointermove", point).addEventListener("click", point);
    const map = chart(figure, "plane", block.charts.plane, listen);
    const ride = chart(figure, "ride", block.charts.ride);
    const call = controls(figure, async (now) => {
      const k = now.condition;
      const lr = block.lr[now.lr];
      const mu = block.momenta[now.momentum];
      say(figure, "condition", String(block.conditions[k]));
      say(figure, "lr", short(lr));
      say(figure, "momentum", short(mu));
      let ground = {};
      if (shaded !== k) {
        const step = block.lr[1] - block.lr[0];
        const rise = block.momenta[1] - block.momenta[0];
        const cells = block.lr.flatMap((lr, l) =>
          block.momenta.map((mu, m) => ({
            lr, mu, l, m,
            // a little over the next cell, which is painted later: so no seam shows
            lr0: lr - step / 2, lr1: lr + 0.8 * step, mu0: mu - rise / 2, mu1: mu + 0.8 * rise,
            measured: at(arrays.measured, k, l, m), exact: at(arrays.exact, k, l, m),
          })),
        );
        ground = { cells, edge: block.edge };
      }
      const f = [...row(arrays.f, k, now.lr, now.momentum)];
      const steps = f.map((value, step) => ({ step, f: Number.isFinite(value) ? 10 ** value : null }));
      await Promise.all([map.set({ ...ground, here: [{ lr, mu }] }), ride.set({ ride: steps })]);
      shaded = k;
      const [measured, exact] = ["measured", "exact"].map((name) => at(arrays[name], k, now.lr, now.momentum));
      const fate = exact < 1 ? "it comes to the minimum" : exact > 1 ? "it diverges" : "it neither comes nor goes";
      describe(
        figure,
        `In the valley with κ = ${block.conditions[k]}, at learning rate ${short(lr)} and momentum ${short(mu)}, a step ` +
          `leaves ${measured.toFixed(3)} of the distance to the minimum (theory ${exact.toFixed(3)}): ${fate}.`,
      );
    });
  },

  async activations(figure) {
    const block = read("activations");
    const arrays = await unpack(block.packed);
    const [histogram, spread] = ["histogram", "spread"].map((name) => chart(figure, name, block.charts[name]));
    controls(figure, async (now) => {
      const a = block.activations.indexOf(now.activation);
      const std = block.std[now.std];
      const near = (x) => Math.abs(std / x - 1) < 0.01;
      const whose = near(1 / Math.sqrt(block.units)) ? ", Xavier’s" : near(Math.sqrt(2 / block.units)) ? ", He’s" : "";
      say(figure, "std", `${short(std)}${whose}`);
      say(figure, "layer", String(now.layer));
      const edges = block.edges[a];
      const shares = row(arrays.share, a, now.std, now.layer - 1);
      const bins = [...shares].map((share, i) => ({ from: edges[i], to: edges[i + 1], share: 100 * share }));
      const spreads = [...row(arrays.spread, a, now.std)].map((value) => 10 ** value);
      const layers = spreads.map((spread, i) => ({ layer: i + 1, spread, chosen: i + 1 === now.layer }));
      await Promise.all([histogram.set({ bins }), spread.set({ layers })]);
      const ends = 100 * (shares[0] + (now.activation === "relu" ? 0 : shares[shares.length - 1]));
      describe(
        figure,
        `${now.activation}, weights of std ${short(std)}${whose}, layer ${now.layer}: the activations’ standard deviation is ` +
          `${short(spreads[now.layer - 1])}; ${ends.toFixed(0)} % of them lie in the ${now.activation === "relu" ? "lowest bin" : "two outermost bins"}.`,
      );
    });
  },

  async curves(figure) {
    const { races } = read("curves");
    let drawn = null;
    controls(figure, async (now) => {
      const race = races[+now.race];
      if (drawn?.race !== race) {
        const at = pointed(figure, "followed", ({ who, seed }) => `${who[0]}, seed ${seed[0]}`);
        drawn = { race, arrays: await unpack(race.packed), lines: chart(figure, "curves", race.chart, at) };
      }
      const { arrays, lines } = drawn;
      const [contenders, seeds, points] = arrays.loss.shape;
      say(figure, "smooth", now.smooth ? `over ${(2 * now.smooth + 1) * race.each} iterations` : "none");
      $('[name="seed"]', figure).max = seeds;
      say(figure, "seed", now.seed ? String(now.seed - 1) : "none");
      const shown = (loss) => (now.log ? Math.log10(loss) : loss);
      const rows = [];
      const means = [];
      const last = [];
      for (let c = 0; c < contenders; c++) {
        const sums = new Float64Array(points);
        for (let s = 0; s < seeds; s++) {
          const losses = [...row(arrays.loss, c, s)].map((value) => 10 ** value);
          smoothed(losses, now.smooth).forEach((loss, i) => {
            sums[i] += loss / seeds;
            rows.push({ who: race.contenders[c], seed: s, step: (i + 0.5) * race.each, loss: shown(loss) });
          });
        }
        sums.forEach((loss, i) => means.push({ who: race.contenders[c], step: (i + 0.5) * race.each, loss: shown(loss) }));
        last.push(`${race.contenders[c]} ${short(sums[points - 1])}`);
      }
      const whole = rows.filter((one) => Number.isFinite(one.loss));
      await lines.set({ seeds: whole, means }, { logarithmic: now.log, picked: now.seed - 1 });
      describe(figure, `${race.title}: ${seeds} seeds each, ${now.log ? "log" : "linear"} scale. Mean loss at the end: ${last.join("; ")}.`);
    });
  },

  async sensitivity(figure) {
    const block = read("sensitivity");
    const arrays = await unpack(block.packed);
    const all = chart(figure, "sensitivity", block.charts.sensitivity, pointed(figure, "under", ({ who }) => who[0]));
    const lines = block.rules.flatMap((who, r) =>
      block.factor
        .map((factor, l) => ({ who, factor, lr: factor * block.default[r], loss: at(arrays.loss, r, l) }))
        .filter((one) => Number.isFinite(one.loss)),
    );
    controls(figure, async (now) => {
      const names = [now.first, now.second];
      const chosen = names.flatMap((who, which) => lines.filter((one) => one.who === who).map((one) => ({ ...one, which })));
      await all.set({ lines, chosen });
      const sentences = names.map((who) => {
        const own = lines.filter((one) => one.who === who);
        if (!own.length) return `${who} diverges at every one of these learning rates`;
        const best = own.reduce((a, b) => (b.loss < a.loss ? b : a), own[0]);
        const fine = own.filter((one) => one.loss < 1.5 * best.loss);
        const edge = [own[0], own[own.length - 1]].includes(best) ? ", the end of the range" : "";
        return (
          `${who} ends lowest, at ${short(best.loss)}, with learning rate ${short(best.lr)}, ${short(best.factor)} times its ` +
          `default${edge}; ${fine.length} of ${block.factor.length} learning rates come within 1.5 times that loss`
        );
      });
      describe(figure, `${sentences.join(". ")}.`);
    });
  },
};

// The moving mean over `reach` neighbors on both sides, fewer at the ends.
function smoothed(values, reach) {
  if (!reach) return values;
  return values.map((_, i) => {
    const near = values.slice(Math.max(0, i - reach), i + reach + 1);
    return near.reduce((a, b) => a + b, 0) / near.length;
  });
}

// ---- The page ----

async function start(figure) {
  if (figure.dataset.started) return;
  figure.dataset.started = "yes";
  try {
    await figures[figure.dataset.play](figure);
  } catch (error) {
    describe(figure, `This figure cannot be drawn in this browser (${error.message}).`);
    console.error(error);
  }
}

function lazily() {
  const playing = $$("[data-play]");
  const watcher = new IntersectionObserver(
    (seen) => seen.filter((one) => one.isIntersecting).forEach((one) => start(one.target)),
    { rootMargin: "400px" },
  );
  playing.forEach((figure) => watcher.observe(figure));
  addEventListener("beforeprint", () => playing.forEach(start));
}

requestAnimationFrame(() => setTimeout(lazily)); // after the first paint
