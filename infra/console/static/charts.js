// Charts of how the house is doing. Behind each stands the table that it was drawn from.

import { ask, at, complain, day, el, say, svg } from "./dom.js";

const WIDTH = 560;
const WIDE = 1180;
const NARROW = 330;
const PHONE = matchMedia("(max-width: 46rem)");
const HEIGHT = 200;
const LEFT = 46;
const BOTTOM = 24;
const TOP = 8;
const REFRESH_MS = 30_000;
const DAY_S = 86_400;
const SUMMER_S = 7_200; // that clocks are put on, at most

export class Charts {
  constructor() {
    this.asked = 0;
    this.timer = 0;
    at("charts-span").addEventListener("change", () => this.load());
    PHONE.addEventListener("change", () => this.timer && this.load());
  }

  show() {
    this.load();
    clearInterval(this.timer);
    this.timer = setInterval(() => !document.hidden && this.load(), REFRESH_MS);
  }

  hide() {
    this.asked += 1;
    clearInterval(this.timer);
    this.timer = 0;
  }

  async load() {
    const asked = (this.asked += 1);
    const hours = at("charts-span").value;
    let told;
    try {
      // Days are the viewer's own.
      const ahead = 15 * Math.round(-new Date().getTimezoneOffset() / 15);
      told = await ask(`console/charts?hours=${hours}&ahead_min=${ahead}`);
    } catch (refused) {
      if (asked === this.asked) complain(`The charts cannot be drawn: ${refused.message}`);
      return;
    }
    if (asked !== this.asked) return;
    complain("");
    const open = new Set([...document.querySelectorAll("#charts details[open]")].map((one) => one.dataset.name));
    const figures = chartsOf(told);
    for (const figure of figures) {
      const table = figure.querySelector("details");
      if (open.has(table.dataset.name)) table.open = true;
    }
    at("charts").replaceChildren(...figures);
    say(at("charts-cover"), coverOf(told.covers));
  }
}

// Of what the charts are drawn: everything that is stored of that time.
function coverOf({ from_s: from, to_s: to, calls, answers, oldest_s: oldest }) {
  const moment = (second) => day(new Date(second * 1000).toISOString());
  const count = (number, one) => `${number.toLocaleString()} ${one}${number === 1 ? "" : "s"}`;
  const all = `All that is stored from ${moment(from)} to ${moment(to)}: ${count(calls, "call")}, ${count(answers, "answer")}.`;
  if (oldest === null) return `${all} No call is stored yet.`;
  return oldest > from ? `${all} Nothing before ${moment(oldest)} is stored.` : all;
}

function chartsOf({ buckets, bucket_s: wide, answers, capacity }) {
  const when = buckets.map(({ at_s: second }) => label(second, wide));
  const ticks = ticksOf(buckets.map(({ at_s: second }) => second), wide);
  const each = wide === 3600 ? "hour" : wide === DAY_S ? "day" : wide === 7 * DAY_S ? "week" : `${wide / 3600} hours`;
  const seconds = (value) => (value === null ? null : value / 1000);
  return [
    chart("wait", `What callers waited for an answer, per ${each}`, when, [
      { name: "median", kind: "line", values: buckets.map((one) => seconds(one.wait_p50_ms)) },
      { name: "95 of 100 waited less", kind: "line", values: buckets.map((one) => seconds(one.wait_p95_ms)) },
    ], { unit: "s", ticks, wide: true }),
    chart("recent", `The last ${answers.length} answers`, answers.map((one) => moment(one.at_s)), [
      { name: "wait", kind: "dots", values: answers.map((one) => one.wait_ms / 1000) },
    ], { unit: "s" }),
    chart("calls", `Calls per ${each}`, when, [
      { name: "completed", kind: "bar", values: buckets.map((one) => one.completed) },
      { name: "failed", kind: "bar", values: buckets.map((one) => one.failed) },
      { name: "on now, or lost", kind: "bar", values: buckets.map((one) => one.calls - one.completed - one.failed) },
    ], { whole: true, ticks }),
    chart("at-once", `Most calls at once, per ${each}`, when, [
      { name: "at once", kind: "bar", values: buckets.map((one) => one.at_once) },
    ], { whole: true, ticks, note: capacity ? `${capacity.in_use} of ${capacity.of} places are taken now` : "" }),
    chart("errors", `Faults during calls, per ${each}`, when, [
      { name: "faults", kind: "bar", values: buckets.map((one) => one.faults), colour: 1 },
    ], { whole: true, ticks }),
  ];
}

// series: [{ name, kind: "line" | "dots" | "bar", values, colour }]; bars are stacked. null: nothing is known.
function chart(name, title, labels, series, { unit = "", whole = false, note = "", ticks = null, wide = false } = {}) {
  // Letters keep their size: they are part of the picture.
  const width = PHONE.matches ? NARROW : wide ? WIDE : WIDTH;
  const sums = labels.map((_, index) => series.reduce((sum, { values }) => sum + (values[index] ?? 0), 0));
  const stacked = series[0].kind === "bar";
  const most = Math.max(0, ...(stacked ? sums : series.flatMap(({ values }) => values.filter((value) => value !== null))));
  const [top, step] = scaleOf(most, whole);
  const x = (index) => LEFT + ((index + 0.5) * (width - LEFT - 4)) / Math.max(1, labels.length);
  const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * value) / top;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${title}; its table follows` });
  for (let value = 0; value <= top + step / 2; value += step) {
    picture.append(svg("line", { class: "axis", x1: LEFT, x2: width - 4, y1: y(value), y2: y(value) }));
    picture.append(svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, `${tidy(value)}${unit && ` ${unit}`}`));
  }
  const every = Math.max(1, Math.ceil(labels.length / 6));
  const named = ticks ?? labels.map((text, index) => [index, text]).filter(([index]) => index % every === 0);
  const apart = Math.max(1, Math.ceil(named.length / (width / 80)));
  named.forEach(([index, text], number) => {
    const anchor = x(index) > width - 40 ? "end" : "middle";
    const place = { x: anchor === "end" ? width : x(index), y: HEIGHT - 6, "text-anchor": anchor };
    if (number % apart === 0) picture.append(svg("text", place, text));
  });
  const below = labels.map(() => 0);
  series.forEach(({ kind, values, name: what, colour }, number) => {
    const look = colour ?? number;
    if (kind === "line") drawLine(picture, values, x, y, look);
    values.forEach((value, index) => {
      if (value === null || (kind === "bar" && value === 0)) return;
      const tip = svg("title", {}, `${labels[index]}: ${what} ${tidy(value)} ${unit}`);
      if (kind === "bar") {
        const across = Math.max(1, ((width - LEFT - 4) / labels.length) * 0.72);
        const base = below[index];
        below[index] += value;
        picture.append(svg("rect", { class: `bar-${look}`, x: x(index) - across / 2, width: across, y: y(base + value), height: Math.max(1, y(base) - y(base + value)) }, tip));
      } else {
        picture.append(svg("circle", { class: `dot-${look}`, cx: x(index), cy: y(value), r: 2.4 }, tip));
      }
    });
  });
  const keys = el("span", { class: "keys", "aria-hidden": "true" });
  if (series.length > 1) {
    series.forEach(({ name: what, kind }, index) => keys.append(el("span", { class: kind === "bar" ? `key-${index}` : `line-key-${index}` }, what)));
  }
  const caption = el("figcaption", {}, title, el("small", {}, labels.length ? note : "nothing yet"), keys);
  const look = wide ? "card chart wide" : "card chart";
  return el("figure", { class: look, "data-chart": name }, caption, picture, tableOf(name, title, labels, series, unit));
}

function drawLine(picture, values, x, y, look) {
  let d = "";
  let open = false;
  values.forEach((value, index) => {
    if (value !== null) d += `${open ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    open = value !== null;
  });
  if (d) picture.append(svg("path", { class: `line-${look}`, d }));
}

function tableOf(name, title, labels, series, unit) {
  const head = el("tr", {}, el("th", { scope: "col" }, "When"), ...series.map((one) => el("th", { scope: "col", class: "number" }, unit ? `${one.name} (${unit})` : one.name)));
  const body = el("tbody");
  labels.forEach((text, index) => {
    const cells = series.map(({ values }) => el("td", { class: "number" }, values[index] === null ? "–" : tidy(values[index])));
    body.append(el("tr", {}, el("th", { scope: "row" }, text), ...cells));
  });
  const table = el("table", {}, el("caption", { class: "unseen" }, title), el("thead", {}, head), body);
  const scroll = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, table);
  return el("details", { "data-name": name }, el("summary", {}, "Table"), scroll);
}

// The axis's end and its step: three to six lines at round numbers.
function scaleOf(most, whole) {
  const rough = Math.max(most, whole ? 4 : 0.4) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= rough * 0.999);
  if (whole) step = Math.max(1, Math.ceil(step));
  return [Math.max(step, Math.ceil((most * 0.999) / step) * step), step];
}

function tidy(value) {
  return String(Math.round(value * 100) / 100);
}

function dayOf(date) {
  return date.toLocaleDateString(undefined, { month: "short", day: "numeric" });
}

function hourOf(date) {
  return date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
}

function label(second, wide) {
  // In the other half of the year the viewer's midnight is an hour off.
  const date = new Date(1000 * (wide >= DAY_S ? second + SUMMER_S : second));
  return wide >= DAY_S ? dayOf(date) : `${dayOf(date)}, ${hourOf(date)}`;
}

// [index, text] of what is written below: days where there are several, else hours.
function ticksOf(seconds, wide) {
  const dates = seconds.map((second) => new Date(1000 * (wide >= DAY_S ? second + SUMMER_S : second)));
  if (wide >= DAY_S) return dates.map((date, index) => [index, dayOf(date)]);
  if (seconds.length * wide <= 2 * DAY_S) {
    return dates.map((date, index) => [index, hourOf(date)]).filter(([index]) => dates[index].getHours() % 3 === 0);
  }
  return dates
    .map((date, index) => [index, dayOf(date)])
    .filter(([index]) => index > 0 && dates[index].getDate() !== dates[index - 1].getDate());
}

function moment(second) {
  return new Date(second * 1000).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}
