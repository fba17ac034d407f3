"use strict";

// Times in the reader's zone; UTC when the pointer is over them.
function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.title = time.dateTime;
    time.textContent = new Date(time.dateTime).toLocaleString();
  }
}

function addCopyButtons(root) {
  for (const source of root.querySelectorAll(".copyable")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    });
    source.after(" ", button);
  }
}

// A page that is being read closely, or typed into, is left as it is.
function isInUse(main) {
  const active = document.activeElement;
  return (active && main.contains(active)) || main.querySelector("details[open], #secret, form.stack");
}

async function refresh() {
  const main = document.querySelector("main");
  if (isInUse(main)) return;
  const answer = await fetch(location.href);
  if (!answer.ok || answer.redirected || isInUse(main)) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("main");
  prepare(fresh);
  main.replaceWith(fresh);
}

function prepare(root) {
  showTimes(root);
  addCopyButtons(root);
}

// g, then the screen's first letter; / for the search.
const screens = { o: "", e: "endpoints", d: "deliveries", v: "events", l: "dead-letters", r: "replays", t: "event-types", a: "audit" };
let wasG = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  if (event.key === "/") {
    const field = document.querySelector(".filters input");
    if (field) {
      event.preventDefault();
      field.focus();
    }
  } else if (wasG && event.key in screens) {
    location.href = document.body.dataset.root + screens[event.key];
  }
  wasG = event.key === "g";
});

prepare(document);
if (!document.querySelector("input[type=password]")) {
  new EventSource(document.body.dataset.root + "live").addEventListener("changed", refresh);
}
