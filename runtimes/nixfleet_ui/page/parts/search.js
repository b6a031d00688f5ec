/** @file Find a host by a part of its name: a combobox over the hosts that the page knows. */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { fleet } from "../data/live.js";
import { visible } from "../data/text.js";
import { hostLink } from "./route.js";
import { redraw } from "./text.js";

const FOUND_MAX = 8;

let text = "";
let chosen = 0;
let isOpen = false;

export function search() {
  const found = isOpen && text ? hostsLike(text) : [];
  const isShown = isOpen && text !== "";
  return html`<div class="search" role="search">
    <input
      id="search"
      type="search"
      role="combobox"
      placeholder="Find a host ( / )"
      aria-label="Find a host"
      aria-expanded=${isShown ? "true" : "false"}
      aria-controls="search-found"
      aria-autocomplete="list"
      aria-activedescendant=${found.length ? `found-${chosen}` : nothing}
      autocomplete="off"
      spellcheck="false"
      .value=${text}
      @input=${typed}
      @keydown=${pressed}
      @focus=${() => show(true)}
      @blur=${() => setTimeout(() => show(false), 150)}
    />
    <ul id="search-found" role="listbox" aria-label="Hosts" ?hidden=${!isShown}>
      ${found.map(
        (name, index) => html`<li id=${`found-${index}`} role="option" aria-selected=${index === chosen ? "true" : "false"} @mousedown=${() => go(name)}><bdi>${visible(name)}</bdi></li>`,
      )}
      ${isShown && !found.length ? html`<li role="option" aria-selected="false" aria-disabled="true" class="none">No host has this in its name.</li>` : nothing}
    </ul>
  </div>`;
}

export function closeSearch() {
  text = "";
  show(false);
}

/** @param {boolean} open */
function show(open) {
  isOpen = open;
  redraw.dispatchEvent(new Event("redraw"));
}

/** @param {Event} event */
function typed(event) {
  text = /** @type {HTMLInputElement} */ (event.target).value.trim();
  chosen = 0;
  show(true);
}

/** @param {KeyboardEvent} event */
function pressed(event) {
  const found = hostsLike(text);
  if (event.key === "ArrowDown") chosen = Math.min(chosen + 1, found.length - 1);
  else if (event.key === "ArrowUp") chosen = Math.max(chosen - 1, 0);
  else if (event.key === "Enter" && found[chosen]) go(found[chosen]);
  else return;
  event.preventDefault();
  redraw.dispatchEvent(new Event("redraw"));
}

/** @param {string} name */
function go(name) {
  closeSearch();
  /** @type {HTMLElement | null} */ (document.getElementById("search"))?.blur();
  location.hash = hostLink(name);
}

/**
 * Names that begin with the text come first.
 * @param {string} part
 */
function hostsLike(part) {
  const wanted = part.toLowerCase();
  /** @type {string[]} */
  const begin = [];
  /** @type {string[]} */
  const hold = [];
  const seen = new Set();
  for (const { names } of fleet.hosts.values()) {
    for (const name of names) {
      const at = name.toLowerCase().indexOf(wanted);
      if (at < 0 || seen.has(name)) continue;
      seen.add(name);
      if (at === 0) begin.push(name);
      else if (hold.length < FOUND_MAX) hold.push(name);
      if (begin.length >= FOUND_MAX) return begin;
    }
  }
  return [...begin, ...hold].slice(0, FOUND_MAX);
}
