"use strict";

// Times: as they are in the reader's zone and how long ago that was; UTC when the pointer is over them.

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const relative = new Intl.RelativeTimeFormat("en", { style: "short" });

function fromNow(date, now) {
  const seconds = (date - now) / 1000;
  const unit = UNITS.find(([, length]) => Math.abs(seconds) >= length);
  return unit ? relative.format(Math.trunc(seconds / unit[1]), unit[0]) : "now";
}

function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    time.title = time.dateTime;
    if (time.closest(".axis")) {
      time.textContent = date.toLocaleString([], { dateStyle: "short", timeStyle: "short" });
      continue;
    }
    const ago = document.createElement("span");
    ago.className = "ago";
    time.replaceChildren(date.toLocaleString(), " ", ago);
  }
  for (const bar of root.querySelectorAll("[data-at] > title")) {
    const date = new Date(bar.parentElement.dataset.at);
    bar.textContent = bar.textContent.replace(/^.*? UTC/, date.toLocaleString());
  }
  showAges(root);
}

function showAges(root) {
  const now = Date.now();
  for (const ago of root.querySelectorAll("time[datetime] > .ago")) {
    ago.textContent = fromNow(new Date(ago.parentElement.dateTime), now);
  }
}

// Fields for times: in UTC as they come and as they are sent, so that a search's address is the same for all; in between
// in the reader's zone, as all times of the page are.

const TIMES = "input[type=datetime-local]";

function toLocal(utc) {
  const date = new Date(utc.length > 19 ? utc : `${utc}Z`);
  if (Number.isNaN(date.getTime())) return "";
  return new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

function toUtc(local) {
  return new Date(local).toISOString().slice(0, 19);
}

function askInOwnZone(root) {
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  for (const field of root.querySelectorAll(TIMES)) {
    const name = field.closest("label").firstChild;
    name.textContent = name.textContent.replace("UTC", timeZone);
    field.defaultValue = toLocal(field.defaultValue);
  }
}

document.addEventListener("formdata", (event) => {
  for (const field of event.target.querySelectorAll(TIMES)) {
    if (field.value) event.formData.set(field.name, toUtc(field.value));
  }
});

// Copying. Browsers lend the clipboard to pages of https only; elsewhere the text is selected, and copied the old way.

function select(source) {
  const range = document.createRange();
  range.selectNodeContents(source);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    select(source);
    return document.execCommand("copy");
  }
}

function addCopyButtons(root) {
  for (const source of root.querySelectorAll(".copyable")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      const isCopied = await copy(source);
      button.textContent = isCopied ? "Copied" : "Selected: now press Ctrl+C";
      say(button.textContent);
    });
    source.after(" ", button);
  }
}

// Live pages: when the server says that something has changed, the page is asked for again, and its main part replaced.

const FIELDS = "input:not([type=hidden]), select, textarea";
const live = document.querySelector("#live");
let isStale = false;
let isBusy = false;
// Until when a store that has too much to look for is left in peace.
let restsUntil = 0;

function say(text) {
  document.querySelector("#said").textContent = text;
}

function isChanged(field) {
  if (field.tagName === "SELECT") {
    const first = [...field.options].findIndex((it) => it.defaultSelected);
    return field.selectedIndex !== Math.max(first, 0);
  }
  return field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
}

// What is being typed, pressed or marked would be lost.
function isInUse(main) {
  const selection = getSelection();
  const isMarked = !selection.isCollapsed && selection.containsNode(main, true);
  const isTyping = document.activeElement?.matches(FIELDS) && main.contains(document.activeElement);
  return isTyping || isMarked || main.querySelector(":active") || [...main.querySelectorAll(FIELDS)].some(isChanged);
}

// What stands for an element on the next version of the page: what it is, and the how manieth.
function nameOf(element) {
  const form = element.form?.getAttribute("action");
  const what = element.id || element.getAttribute("href") || element.getAttribute("aria-label") || form || element.type;
  return [element.tagName, element.name, what || element.textContent].join("\n");
}

function placeOf(main, element) {
  const name = nameOf(element);
  const alike = [...main.querySelectorAll(element.tagName)].filter((it) => nameOf(it) === name);
  const index = alike.indexOf(element);
  return (fresh) => [...fresh.querySelectorAll(element.tagName)].filter((it) => nameOf(it) === name)[index];
}

function replace(main, fresh) {
  const scrolled = [...main.querySelectorAll(".scroll, pre")].map((it) => [it.scrollLeft, it.scrollTop]);
  const open = [...main.querySelectorAll("details[open] > summary")].map((it) => placeOf(main, it));
  const active = document.activeElement;
  const focused = main.contains(active) ? placeOf(main, active) : undefined;
  const [left, top] = [scrollX, scrollY];
  main.replaceWith(fresh);
  for (const find of open) find(fresh)?.parentElement.setAttribute("open", "");
  [...fresh.querySelectorAll(".scroll, pre")].forEach((it, index) => {
    [it.scrollLeft, it.scrollTop] = scrolled[index] ?? [0, 0];
  });
  focused?.(fresh)?.focus({ preventScroll: true });
  scrollTo(left, top);
}

async function refresh() {
  const main = document.querySelector("main");
  isStale = true;
  if (isBusy || document.hidden || Date.now() < restsUntil) return;
  if (isInUse(main)) return showLive("Paused while you work here");
  isBusy = true;
  try {
    const answer = await fetch(location.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = page.querySelector("main");
    const isAway = answer.status === 503;
    // The overview has something to say without the store, too.
    const isThere = answer.ok || (isAway && next?.dataset.live);
    if (next?.dataset.busy !== undefined) return showIsBusy();
    if (isAway && !isThere) return showLive("Not up to date: the store does not answer");
    if (!isThere || answer.redirected) return showLive("Not up to date: reload this page");
    if (isInUse(main)) return;
    const fresh = document.adoptNode(next);
    prepare(fresh);
    replace(main, fresh);
    isStale = false;
    showIsLive();
  } catch {
    showLive("Not connected");
  } finally {
    isBusy = false;
  }
}

function showLive(text) {
  if (live.textContent !== text) live.textContent = text;
}

function showIsBusy() {
  restsUntil = Date.now() + 10000;
  showLive("Busy: shown as it was before");
}

function showIsLive() {
  const isAway = document.querySelector("main").dataset.live === "away";
  showLive(isAway ? "Waiting for the store" : "Live");
}

function follow(known) {
  const source = new EventSource(`${document.body.dataset.root}live?known=${known}`);
  let closing;
  source.addEventListener("changed", refresh);
  source.addEventListener("busy", showIsBusy);
  source.addEventListener("same", () => {
    restsUntil = 0;
    if (!isStale) showIsLive();
  });
  source.addEventListener("open", () => {
    clearTimeout(closing);
    if (!isStale && Date.now() >= restsUntil) showIsLive();
  });
  // A stream ends after some seconds, and is opened again: only one that stays away is worth a word.
  source.addEventListener("error", () => {
    clearTimeout(closing);
    const isOver = source.readyState === EventSource.CLOSED;
    closing = setTimeout(() => showLive(isOver ? "Not live: reload to see what is new" : "Not connected"), 8000);
  });
  setInterval(() => isStale && refresh(), 2000);
  document.addEventListener("visibilitychange", () => isStale && refresh());
}

function prepare(root) {
  showTimes(root);
  askInOwnZone(root);
  addCopyButtons(root);
}

// Keys: g, then the screen's letter; / for the search.

const SCREENS = {
  o: "",
  e: "endpoints",
  d: "deliveries",
  v: "events",
  l: "dead-letters",
  r: "replays",
  t: "event-types",
  a: "audit",
};
let wasG = false;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches(FIELDS)) return;
  if (event.key === "/") {
    const field = document.querySelector(".filters input");
    if (field) {
      event.preventDefault();
      field.focus();
    }
  } else if (wasG && event.key in SCREENS) {
    location.href = document.body.dataset.root + SCREENS[event.key];
  }
  wasG = event.key === "g";
});

prepare(document);
// On a phone the screens are a row that is scrolled: to the one that is open.
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
setInterval(() => showAges(document), 15000);
const known = document.querySelector("main").dataset.live;
if (known !== undefined) follow(known);
