/** @file The hosts as a table: for small fleets, with why each waits, and for those who cannot see a map. */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { STATES, standingOf } from "../data/hosts.js";
import { fleet } from "../data/live.js";
import { isFailure } from "../data/states.js";
import { number } from "../data/text.js";
import { reasonOf } from "../data/waits.js";
import { hostLink } from "./route.js";
import { said, stateOf } from "./text.js";

/** @typedef {import("../data/hosts.js").Hosts} Hosts */

const ROWS_MAX = 100;

let page = 0;
let wanted = "";

/** @param {Hosts} hosts */
export function hostTable(hosts) {
  const order = hosts.names.map((_, index) => index).filter((index) => wanted === "" || STATES[hosts.states[index]] === wanted);
  order.sort((one, other) => rank(hosts.waves[one]) - rank(hosts.waves[other]) || one - other);
  const pages = Math.max(1, Math.ceil(order.length / ROWS_MAX));
  page = Math.min(page, pages - 1);
  const shown = order.slice(page * ROWS_MAX, (page + 1) * ROWS_MAX);
  return html`
    ${hosts.names.length > ROWS_MAX || wanted ? filters(order.length, pages) : nothing}
    <div class="scroll" tabindex="0" role="region" aria-label="Hosts as a table">
      <table class="hosts">
        <thead><tr><th scope="col">Host</th><th scope="col">Wave</th><th scope="col">State</th><th scope="col">Counts</th><th scope="col">Why it waits</th></tr></thead>
        <tbody>${shown.map((index) => row(hosts, index))}</tbody>
      </table>
    </div>
  `;
}

/**
 * @param {Hosts} hosts
 * @param {number} index
 */
function row(hosts, index) {
  const state = STATES[hosts.states[index]];
  return html`<tr data-tone=${isFailure(state) ? "bad" : "plain"}>
    <th scope="row"><a href=${hostLink(hosts.names[index])}>${said(hosts.names[index], 80)}</a></th>
    <td class="number">${hosts.waves[index] < 0 ? "none" : hosts.waves[index]}</td>
    <td>${stateOf(state)}</td>
    <td>${standingOf(hosts, index) ?? "by its state"}</td>
    <td>${said(reasonOf(hosts.rolloutId, hosts.names[index]), 160)}</td>
  </tr>`;
}

/**
 * @param {number} count
 * @param {number} pages
 */
function filters(count, pages) {
  return html`<div class="row filters">
    <label>State <select @change=${(/** @type {Event} */ event) => filter(/** @type {HTMLSelectElement} */ (event.target).value)}>
      <option value="">all</option>
      ${STATES.map((state) => html`<option value=${state} ?selected=${state === wanted}>${state}</option>`)}
    </select></label>
    <span class="quiet-text">${number(count)} hosts</span>
    <button class="quiet" ?disabled=${page === 0} @click=${() => turn(page - 1)}>before</button>
    <span class="quiet-text">page ${page + 1} of ${pages}</span>
    <button class="quiet" ?disabled=${page >= pages - 1} @click=${() => turn(page + 1)}>after</button>
  </div>`;
}

/** @param {string} state */
function filter(state) {
  wanted = state;
  turn(0);
}

/** @param {number} to */
function turn(to) {
  page = to;
  fleet.changed("fleet");
}

/** @param {number} wave */
function rank(wave) {
  return wave < 0 ? Number.MAX_SAFE_INTEGER : wave;
}
