/** @file Rows of the log as lines: the newest first, those of one minute that say the same rolled up into one. */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { number } from "../data/text.js";
import { hostLink } from "./route.js";
import { said, time } from "./text.js";

/** @typedef {import("../types/api").ListedRow} Row */

/** @typedef {{first: Row, rows: Row[]}} Group */

const LINES_MAX = 10;

/**
 * @param {readonly Row[]} rows
 * @param {string} rolloutId
 */
export function storyLines(rows, rolloutId) {
  const groups = rolledUp(rows.filter((it) => it.rolloutId === rolloutId || it.rolloutId === undefined), LINES_MAX);
  if (!groups.length) return html`<p class="quiet-text">The log says nothing of it yet.</p>`;
  return html`<ol class="story">${groups.map(line)}</ol>`;
}

/** @param {Group} group */
function line({ first, rows }) {
  return html`<li data-kind=${first.kind} data-tone=${toneOf(first)}>
    ${time(first.ts, { seconds: rows.length === 1 })}
    <span>${sentence(first, rows.length - 1, 200)}</span>
  </li>`;
}

/**
 * Who did what: of hosts that say the same, the first and how many more.
 * @param {Row} row
 * @param {number} more
 * @param {number} [max]
 */
export function sentence(row, more, max) {
  const text = said(row.text ?? row.kind, max);
  if (!more) return html`${actor(row)} ${text}`;
  const isHost = (row.actor ?? row.host) === row.host;
  return isHost ? html`${actor(row)} <b>and ${number(more)} more</b> ${text}` : html`${actor(row)} ${text} <b>and ${number(more)} more</b>`;
}

/** @param {Row} row */
export function actor(row) {
  const name = row.actor ?? row.host;
  if (!name) return nothing;
  return name === row.host ? html`<a class="actor" href=${hostLink(name)}>${said(name, 60)}</a>` : html`<b class="actor">${said(name, 60)}</b>`;
}

/**
 * Return the newest groups. Rows of hosts in one minute are one group if they are of one type and say the same.
 * @param {readonly Row[]} rows
 * @param {number} max
 * @returns {Group[]}
 */
export function rolledUp(rows, max) {
  /** @type {Map<string, Group>} */
  const groups = new Map();
  for (let at = rows.length - 1; at >= 0; at--) {
    const row = rows[at];
    const said = row.host === undefined ? `${row.seq}` : (row.text ?? "").replaceAll(row.host, "");
    const key = `${row.ts.slice(0, 16)} ${row.rolloutId} ${row.type ?? row.kind} ${said}`;
    const known = groups.get(key);
    if (known) known.rows.push(row);
    else if (groups.size < max) groups.set(key, { first: row, rows: [row] });
    else break;
  }
  return [...groups.values()];
}

/**
 * How a line is set off: by how much it matters, as the control plane says.
 * @param {Row} row
 */
export function toneOf(row) {
  if (row.severity === "act" || row.severity === "warning") return "bad";
  return row.kind === "operator_command" ? "person" : "plain";
}
