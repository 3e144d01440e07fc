// Elements and words. Everything that callers, models and files said goes in as text, never as markup.

export const at = (id) => document.getElementById(id);

// An element with properties and children; "class", "data-*", "aria-*", "role" and the like become attributes.
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

// Changes the document only where the text is another one.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function announce(text) {
  say(at("announcement"), text);
}

export function complain(text) {
  say(at("alert"), text);
  at("alert").hidden = !text;
}

// 83 -> "1:23", 3723 -> "1:02:03"
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 60) % 60, whole % 60];
  if (whole >= 3600) parts.unshift(Math.floor(whole / 3600));
  return parts.map((part, index) => (index === 0 ? String(part) : String(part).padStart(2, "0"))).join(":");
}

export function tenths(seconds) {
  const whole = Math.max(0, seconds);
  return `${clock(whole)}.${Math.floor((whole * 10) % 10)}`;
}

// 1234 -> "1.23 s"; "–" where nothing is known
export function wait(ms) {
  return ms === null || ms === undefined ? "–" : `${(ms / 1000).toFixed(2)} s`;
}

export function day(iso) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return String(iso ?? "");
  const options = { month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit" };
  if (date.getFullYear() !== new Date().getFullYear()) options.year = "numeric";
  return date.toLocaleString(undefined, options);
}

const WAYS = { twilio: "Twilio", sip: "SIP", browser: "browser", asterisk: "Asterisk", audiosocket: "AudioSocket" };

export function way(kind) {
  return WAYS[kind] ?? kind;
}

// Number or name of somebody; nothing is known of some.
export function party(name) {
  return name || "unknown";
}

// What the server answers, as JSON. A login that has ended leads to the login page.
export async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  if (answer.status === 401) {
    location.assign("login?next=/console");
    throw new Error("the login has ended");
  }
  const type = answer.headers.get("Content-Type") ?? "";
  const content = type.startsWith("application/json") ? await answer.json() : {};
  if (!answer.ok) throw new Refused(answer.status, content.detail ?? `status ${answer.status}`);
  return content;
}

export class Refused extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}
