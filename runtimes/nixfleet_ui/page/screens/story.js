/**
 * @file The screen Story: the log in words, with filters; rows of one minute that say the same are rolled up. A row opens
 * to its payload and its signature. Pages go back by row number, so that what is shown does not move as the log grows.
 */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { read } from "../data/api.js";
import { chain, isVerified, verify } from "../data/chain.js";
import { fleet, problemText } from "../data/live.js";
import { showPast } from "../data/past.js";
import { number, visibleLines } from "../data/text.js";
import { route, storyLink } from "../parts/route.js";
import { rolledUp, sentence, toneOf } from "../parts/story_lines.js";
import { redraw, said, time } from "../parts/text.js";

/** @typedef {import("../types/api").ListedRow} Row */

/** How many rows are looked at for one step back: without a filter, and with one. */
const STEP = 300;
const STEP_FILTERED = 5000;
const LIMIT = 500;
/** How many lines are drawn at first, and more with each step back. */
const GROUPS_STEP = 400;

/** The kinds of lines, as the API takes them. A test holds them against the API's document. */
export const KINDS = [
  "agent_event",
  "fact_refused",
  "rollout_event",
  "plan_action",
  "gate_decision",
  "operator_command",
  "artefact_accepted",
  "artefact_refused",
  "host_enrolled",
  "identity_forked",
];

/** @type {{query: string, rows: Row[], first: number, isLoading: boolean, problem: string, begins: number | null, max: number}} */
let shown = { query: "?", rows: [], first: 0, isLoading: false, problem: "", begins: null, max: GROUPS_STEP };
let isRolledUp = true;
/** @type {Set<string>} */
const openRows = new Set();

/** @param {string} argument */
export function story(argument) {
  const filters = new URLSearchParams(argument);
  const query = filters.toString();
  if (shown.query !== query) {
    shown = { query, rows: [], first: (fleet.live?.head ?? 0) + 1, isLoading: false, problem: "", begins: null, max: GROUPS_STEP };
    void back();
  }
  const rows = [...shown.rows, ...newer(filters)];
  const groups = isRolledUp ? rolledUp(rows, shown.max) : [...rows].reverse().slice(0, shown.max).map((row) => ({ first: row, rows: [row] }));
  return html`
    <div class="title">
      <h1>Story</h1>
      <form class="row filters" @submit=${(/** @type {Event} */ event) => event.preventDefault()} aria-label="Filters">
        ${field("host", "Host", filters)} ${field("rollout", "Rollout", filters)}
        <label>Kind <select @change=${(/** @type {Event} */ event) => filter("kind", event)}>
          <option value="">all</option>
          ${KINDS.map((kind) => html`<option value=${kind} ?selected=${filters.get("kind") === kind}>${kind}</option>`)}
        </select></label>
        <label><input type="checkbox" .checked=${isRolledUp} @change=${roll} /> roll up by minute</label>
        <button type="button" class="plain" ?disabled=${chain.isAsked} @click=${() => void verify(rows[0]?.seq ?? 1, rows.at(-1)?.seq ?? 1)}>${chain.isAsked ? "Reading the whole log…" : "Verify the chain"}</button>
      </form>
    </div>
    <section class="panel" aria-label="Rows of the log">
      ${shown.problem ? html`<p class="problem" role="alert">${said(shown.problem)}</p>` : nothing}
      ${chain.problem ? html`<p class="problem" role="alert">${said(chain.problem)}</p>` : nothing}
      ${chain.text ? html`<p class=${chain.isBroken ? "problem" : "verified"} role=${chain.isBroken ? "alert" : "status"}>${chain.isBroken ? nothing : html`<span aria-hidden="true">✓ </span>`}${said(chain.text, 400)}</p>` : nothing}
      <table class="story-table">
        <thead><tr><th class="seq" scope="col">Row</th><th class="hash" scope="col">Hash</th><th class="at" scope="col">UTC</th><th class="of" scope="col">Rollout</th><th scope="col">What happened</th></tr></thead>
        <tbody>${groups.map(line)}</tbody>
      </table>
      ${groups.length || shown.isLoading ? nothing : html`<p class="quiet-text">No row from ${number(shown.first)} on is like this.</p>`}
      <p class="row more">
        ${groups.length === shown.max ? html`<button class="plain" @click=${more}>Rows before ${number(groups.at(-1)?.first.seq ?? 0)}</button>` : shown.first > 1 ? html`<button class="plain" ?disabled=${shown.isLoading} @click=${back}>${shown.isLoading ? "Reading…" : `Rows before ${number(shown.first)}`}</button>` : html`<span class="quiet-text">This is where the log begins.</span>`}
        ${shown.begins ? html`<span class="quiet-text">Rows before ${number(shown.begins)} were exported and dropped.</span>` : nothing}
      </p>
    </section>
  `;
}

/**
 * @param {string} name
 * @param {string} title
 * @param {URLSearchParams} filters
 */
function field(name, title, filters) {
  return html`<label>${title} <input type="text" size="16" spellcheck="false" .value=${filters.get(name) ?? ""} @change=${(/** @type {Event} */ event) => filter(name, event)} /></label>`;
}

/**
 * @param {string} name
 * @param {Event} event
 */
function filter(name, event) {
  const value = /** @type {HTMLInputElement | HTMLSelectElement} */ (event.target).value.trim();
  const filters = Object.fromEntries(new URLSearchParams(route().argument));
  delete filters[name];
  location.hash = storyLink(value ? { ...filters, [name]: value } : filters);
}

/** @param {Event} event */
function roll(event) {
  isRolledUp = /** @type {HTMLInputElement} */ (event.target).checked;
  redrawn();
}

/**
 * What came since the page was read, and is like the filters.
 * @param {URLSearchParams} filters
 */
function newer(filters) {
  const last = shown.rows.at(-1)?.seq ?? shown.first - 1;
  const [host, rollout, kind] = ["host", "rollout", "kind"].map((name) => filters.get(name));
  return fleet.rows.filter(
    (row) => row.seq > last && (!host || row.host === host) && (!rollout || row.rolloutId === rollout) && (!kind || row.kind === kind),
  );
}

/** Draw more of what was read. */
function more() {
  shown.max += GROUPS_STEP;
  redrawn();
}

/** Read the rows before those that are shown. */
async function back() {
  const wanted = shown;
  if (wanted.isLoading || wanted.first <= 1) return;
  wanted.isLoading = true;
  redrawn();
  const step = wanted.query ? STEP_FILTERED : STEP;
  const last = wanted.first - 1;
  let after = Math.max(0, last - step);
  const first = after + 1;
  /** @type {Row[]} */
  const found = [];
  try {
    while (after < last) {
      /** @type {import("../types/api").FeedPage} */
      const page = await read(`/v1/log?after=${after}&limit=${Math.min(LIMIT, last - after)}${wanted.query ? `&${wanted.query}` : ""}`);
      found.push(...page.events.filter((row) => row.seq <= last));
      wanted.begins = page.begins ?? wanted.begins;
      if (page.next <= after) break;
      after = page.next;
    }
    wanted.rows = [...found, ...wanted.rows];
    wanted.first = wanted.begins && wanted.begins > first ? 1 : first;
    wanted.problem = "";
  } catch (error) {
    wanted.problem = problemText(error);
  }
  wanted.isLoading = false;
  redrawn();
}

/** @param {{first: Row, rows: Row[]}} group */
function line({ first, rows }) {
  const key = `${first.seq} ${first.host ?? ""} ${first.type ?? ""} ${first.text ?? ""}`;
  const isOpen = openRows.has(key);
  return html`<tr data-tone=${toneOf(first)}>
      <td class="seq"><button class="open" aria-expanded=${isOpen ? "true" : "false"} title="The row as it is stored" @click=${() => toggle(key)}>${number(first.seq)}</button></td>
      <td class="hash">${hashOf(first.seq)}</td>
      <td>${time(first.ts, { seconds: rows.length === 1 })}</td>
      <td>${said(first.rolloutId, 60)}</td>
      <td>${sentence(first, rows.length - 1)}</td>
    </tr>
    ${isOpen ? html`<tr class="detail"><td colspan="5">${details(first, rows)}</td></tr>` : nothing}`;
}

/**
 * @param {Row} row
 * @param {readonly Row[]} rows
 */
function details(row, rows) {
  return html`<dl class="pairs">
      <dt>row</dt><dd>${number(row.seq)}, ${row.kind}${row.type ? html`, ${said(row.type, 60)}` : nothing}</dd>
      <dt>written</dt><dd><time datetime=${row.ts}>${row.ts}</time></dd>
      ${row.host ? html`<dt>host</dt><dd>${said(row.host, 120)}</dd>` : nothing}
      <dt>hash</dt><dd>${chain.hashes.has(row.seq) ? html`<code class="whole-hash">${chain.hashes.get(row.seq)}</code> ${isVerified(row.seq) ? "the chain is intact up to it" : ""}` : "known once the chain was verified"}</dd>
      <dt>signature</dt><dd>${row.signature ? html`<code>${said(row.signature, 140)}</code>` : "none: the control plane wrote it"}</dd>
      ${rows.length > 1 ? html`<dt>also</dt><dd>${said(rows.slice(1).map((it) => `${it.host ?? it.actor ?? ""} (${it.seq})`).join(", "), 600)}</dd>` : nothing}
    </dl>
    <pre class="bytes" tabindex="0" aria-label="Payload">${visibleLines(JSON.stringify(row.payload, null, 2))}</pre>
    <p><button class="plain" @click=${() => shownAsOf(row.seq)}>The fleet as of this row</button></p>`;
}

/**
 * The begin of a row's hash, which a click copies whole, and a mark if the chain was verified over it.
 * @param {number} seq
 */
function hashOf(seq) {
  const hash = chain.hashes.get(seq);
  if (hash === undefined) return isVerified(seq) ? html`<span class="verified" title="The chain is intact up to this row">✓</span>` : nothing;
  const isIntact = isVerified(seq);
  return html`<button class="open" title=${`Copy ${hash}`} aria-label=${`Copy the hash ${hash.slice(0, 8)} of row ${seq}${isIntact ? ", verified" : ""}`} @click=${() => void copied(hash)}><code>${hash.slice(0, 8)}</code></button>${isIntact ? html` <span class="verified" aria-hidden="true">✓</span>` : nothing}`;
}

/** @param {string} hash */
async function copied(hash) {
  const place = document.getElementById("said");
  try {
    await navigator.clipboard.writeText(hash);
    if (place) place.textContent = `copied ${hash}`;
  } catch {
    if (place) place.textContent = "The browser does not let the page copy: open the row, and copy it there.";
  }
}

/** @param {number} seq */
function shownAsOf(seq) {
  void showPast(seq);
  location.hash = "#/now";
}

/** @param {string} key */
function toggle(key) {
  if (!openRows.delete(key)) openRows.add(key);
  redrawn();
}

function redrawn() {
  redraw.dispatchEvent(new Event("redraw"));
}
