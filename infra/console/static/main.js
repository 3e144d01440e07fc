// Which page is shown: the part of the address behind # says it.

import { Charts } from "./charts.js";
import { ask, at, complain, say } from "./dom.js";
import { Live } from "./live.js";
import { Past } from "./past.js";
import { Player } from "./player.js";

const views = {};

function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id = ""] = path.split("/").map(decoded);
  return { name: name || "live", id, query: new URLSearchParams(query) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show() {
  const { name, id, query } = route();
  const wanted = name === "calls" && id ? "call" : name;
  const view = wanted in views ? wanted : "live";
  complain("");
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.dataset.view !== view;
  for (const link of document.querySelectorAll("nav a[data-tab]")) {
    if (link.dataset.tab === (view === "call" ? "calls" : view)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.body.dataset.view = view;
  for (const [other, shown] of Object.entries(views)) if (other !== view) shown.hide();
  document.title = { live: "Maya: live", calls: "Maya: calls", call: "Maya: a call", charts: "Maya: charts" }[view];
  views[view].show(id, query);
}

async function begin() {
  let me;
  try {
    me = await ask("console/me");
  } catch (refused) {
    complain(`The server cannot be asked: ${refused.message}. Load the page again.`);
    return;
  }
  say(at("who"), me.name === "this machine" ? "" : `${me.name}, ${me.role}`);
  at("log-out").hidden = me.name === "this machine";
  document.body.dataset.role = me.role;
  views.live = new Live({ endsCalls: me.ends_calls });
  if (me.past) Object.assign(views, { calls: new Past(), call: new Player(), charts: new Charts() });
  for (const link of document.querySelectorAll("nav a[data-tab]")) link.hidden = !(link.dataset.tab in views);
  window.addEventListener("hashchange", show);
  show();
}

begin();
