/** @file Small pieces of a page: hostile text, times, marks of states, bars. */

import { html, nothing, svg } from "../vendor/lit-html-3.3.3.js";
import { STATES } from "../data/hosts.js";
import { GLYPHS } from "../data/states.js";
import { SHOWN_MAX, number, visible } from "../data/text.js";
import { clock, whole } from "../data/time.js";

/**
 * Which long texts are shown whole, by the text.
 * @type {Set<string>}
 */
const opened = new Set();

/** Asked for when a text is shown whole: the page draws again. */
export const redraw = new EventTarget();

/**
 * Text of a host or an operator: its characters visible, apart from the direction of what is beside it, cut.
 * @param {string | null | undefined} text
 * @param {number} [max]
 */
export function said(text, max = SHOWN_MAX) {
  if (!text) return nothing;
  if (text.length <= max) return html`<bdi>${visible(text)}</bdi>`;
  if (opened.has(text)) return html`<bdi class="whole">${visible(text)}</bdi>`;
  return html`<bdi>${visible(text.slice(0, max))}…</bdi> <button class="quiet" @click=${() => open(text)}>show all ${number(text.length)} characters</button>`;
}

/** @param {string} text */
function open(text) {
  opened.add(text);
  redraw.dispatchEvent(new Event("redraw"));
}

/**
 * @param {string | undefined} at
 * @param {{seconds?: boolean}} [options]
 */
export function time(at, options) {
  return at === undefined ? nothing : html`<time datetime=${at} title=${whole(at)}>${clock(at, options)}</time>`;
}

/** @param {string} state */
export function mark(state) {
  const known = /** @type {import("../data/states.js").State} */ (state);
  return html`<span class="mark" data-state=${state} aria-hidden="true">${GLYPHS[known] ?? "?"}</span>`;
}

/** @param {string} state */
export function stateOf(state) {
  return html`<span class="state">${mark(state)} ${state}</span>`;
}

/**
 * Bars of hosts by state. What a reader of a screen hears is the text beside it.
 * @param {Readonly<Record<string, number>>} states
 * @param {number} total
 */
export function bar(states, total) {
  let x = 0;
  const parts = BAR_ORDER.filter((state) => states[state]).map((state) => {
    const width = (100 * (states[state] ?? 0)) / Math.max(total, 1);
    const part = svg`<rect x=${x.toFixed(3)} y="0" width=${width.toFixed(3)} height="10" data-state=${state}></rect>`;
    x += width;
    return part;
  });
  return html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="empty" width="100" height="10"></rect>${parts}</svg>`;
}

/** @type {readonly string[]} */
const BAR_ORDER = ["Converged", "Soaking", "Activating", "Reverted", "Failed", "Deferred"];

/**
 * @param {Readonly<Record<string, number>>} states
 */
export function legend(states) {
  return html`<ul class="legend">${STATES.filter((state) => states[state] || state === "Failed" || state === "Converged" || state === "Pending").map(
    (state) => html`<li>${mark(state)} ${state} <b>${number(states[state] ?? 0)}</b></li>`,
  )}</ul>`;
}

/**
 * A panel of the page.
 * @param {string} title
 * @param {unknown} content
 * @param {{aside?: unknown, kind?: string}} [options]
 */
export function panel(title, content, options = {}) {
  const id = `panel-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return html`<section class="panel" data-kind=${options.kind ?? "plain"} aria-labelledby=${id}>
    <header><h2 id=${id}>${title}</h2>${options.aside ?? nothing}</header>
    ${content}
  </section>`;
}
