/** @file The page: its head, the screen that the address names, and the keys. Drawn again when the fleet changes. */

import { html, nothing, render } from "./vendor/lit-html-3.3.3.js";
import { useSecret } from "./data/api.js";
import { fleet, follow, problemText } from "./data/live.js";
import { secret } from "./data/secret.js";
import { number, visible } from "./data/text.js";
import { clock, distance } from "./data/time.js";
import { route, routes } from "./parts/route.js";
import { pastBanner } from "./parts/past.js";
import { closeSearch, search } from "./parts/search.js";
import { redraw, said } from "./parts/text.js";
import { decide } from "./screens/decide.js";
import { host } from "./screens/host.js";
import { next } from "./screens/next.js";
import { now } from "./screens/now.js";
import { releases } from "./screens/releases.js";
import { story } from "./screens/story.js";

/** @type {Record<string, (argument: string) => unknown>} */
const SCREENS = { now, decide, host, next, story, releases };

const app = /** @type {HTMLElement} */ (document.getElementById("app"));
let fault = "";
let isScheduled = false;

function schedule() {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    draw();
  });
}

function draw() {
  const { screen, argument } = route();
  const waiting = decisions();
  document.title = `${fleet.past ? `row ${fleet.past.seq} · ` : ""}${waiting ? `(${waiting}) ` : ""}${fleet.shown?.rolloutId ? visible(fleet.shown.rolloutId) : "nixfleet"} · ${screen}`;
  render(
    html`
      <header class="top">
        <a class="skip" href="#content" @click=${skip}>Skip to the content</a>
        <a class="brand" href="#/now" aria-label="nixfleet, to the screen Now">nixfleet</a>
        <nav aria-label="Screens">
          ${routes.map(
            ({ name, title }, index) => html`<a href=${`#/${name}`} aria-current=${name === screen ? "page" : nothing} title=${`Key ${index + 1}`}
              >${title}${name === "decide" && waiting ? html` <span class="count">${waiting}<span class="only-read"> to decide</span></span>` : nothing}</a
            >`,
          )}
        </nav>
        ${link()} ${search()}
        <p class="who" title=${fleet.session ? `${visible(fleet.session.url)}, key ${fleet.session.keyFingerprint}` : ""}>
          ${said(fleet.session?.operator, 40)}${role()}
        </p>
      </header>
      ${pastBanner()}
      <main id="content" tabindex="-1" data-screen=${screen} ?data-ready=${fleet.live !== null || fault !== ""}>${body(screen, argument)}</main>
    `,
    app,
  );
  announce();
}

/**
 * @param {string} screen
 * @param {string} argument
 */
function body(screen, argument) {
  if (fault) return html`<div class="notice" role="alert"><h1>This tab cannot show the fleet</h1><p>${said(fault)}</p></div>`;
  if (fleet.overview === null) {
    const problem = fleet.link.problem;
    return html`<div class="notice">
      <h1>${problem ? "The control plane does not answer" : "Asking the control plane…"}</h1>
      ${problem ? html`<p role="alert">${said(problem)}</p><p>It is asked again by itself.</p>` : nothing}
    </div>`;
  }
  return SCREENS[screen](argument);
}

function link() {
  const { isLive, problem, since } = fleet.link;
  const head = fleet.live?.head;
  if (isLive && head !== undefined) {
    const at = fleet.live?.headAt;
    return html`<p class="link" data-live="yes"><span class="dot" aria-hidden="true"></span>live · row ${number(Math.max(head, fleet.rows.at(-1)?.seq ?? 0))}${at ? html` · ${clock(at)} UTC` : nothing}</p>`;
  }
  if (problem === null) return html`<p class="link" data-live="begin">connecting…</p>`;
  return html`<p class="link" data-live="no" role="alert" title=${visible(problem)}>
    <span aria-hidden="true">▲</span> not live since ${distance(new Date(since).toISOString())}: ${said(problem, 120)}
  </p>`;
}

function role() {
  if (fleet.session?.isReadOnly) return html`<span class="role">only shows</span>`;
  const found = fleet.overview?.you.role;
  return found ? html`<span class="role">${found === "operate" ? "may operate" : "may read"}</span>` : nothing;
}

function decisions() {
  return fleet.needs.length;
}

let announced = "";

/** Tell a screen reader of a change in how the rollout goes: its verdict, not each number. */
function announce() {
  const shown = fleet.shown;
  const text = shown ? `${shown.rolloutId} is ${shown.course}. ${decisions()} to decide.` : "";
  if (text === announced) return;
  announced = text;
  const place = document.getElementById("said");
  if (place && shown) place.textContent = `${visible(text)} ${visible(shown.headline)}`;
}

/** @param {KeyboardEvent} event */
function pressed(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const isTyping = target.matches("input, textarea, select, [contenteditable]");
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    if (isTyping) target.blur();
    else if (route().screen === "host") history.back();
    closeSearch();
    return;
  }
  if (isTyping) return;
  if (event.key === "/") {
    document.getElementById("search")?.focus();
  } else if (event.key === "f" || event.key === "F") {
    const map = /** @type {any} */ (document.querySelector("fleet-map"));
    if (!map) return;
    map.nextFailure(event.shiftKey ? -1 : 1);
  } else if (event.key >= "1" && event.key <= String(routes.length)) {
    location.hash = `#/${routes[Number(event.key) - 1].name}`;
  } else {
    return;
  }
  event.preventDefault();
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

function navigated() {
  schedule();
  window.scrollTo(0, 0);
  document.getElementById("content")?.focus({ preventScroll: true });
}

async function begin() {
  const found = await secret();
  if (found === null) {
    fault = "It has no secret of the page's process. Open the file that `nixfleet ui` printed.";
    schedule();
    return;
  }
  useSecret(found);
  fleet.addEventListener("change", schedule);
  redraw.addEventListener("redraw", schedule);
  addEventListener("hashchange", navigated);
  addEventListener("keydown", pressed);
  setInterval(schedule, 10_000);
  try {
    await follow();
  } catch (error) {
    fault = problemText(error);
    schedule();
  }
}

schedule();
void begin();
