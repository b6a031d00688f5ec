/** @file The screen Releases: what each channel points at and until when, what is refused, and how its rollouts ended. */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { read } from "../data/api.js";
import { fleet, problemText } from "../data/live.js";
import { number, short, visible } from "../data/text.js";
import { distance, nowMillis } from "../data/time.js";
import { releaseDetail } from "../parts/release_detail.js";
import { storyLink } from "../parts/route.js";
import { panel, redraw, said, time } from "../parts/text.js";

/**
 * @typedef {import("../types/api").ReleaseStanding} Standing
 * @typedef {import("../types/api").ListedRollout} Rollout
 */

/** @type {{head: number, standing: Standing | null, rollouts: readonly Rollout[], problem: string, isAsked: boolean}} */
const shown = { head: -1, standing: null, rollouts: [], problem: "", isAsked: false };

export function releases() {
  const head = fleet.live?.head ?? 0;
  if (shown.head !== head && !shown.isAsked) void ask(head);
  const { standing, problem } = shown;
  if (problem) return html`<div class="notice"><h1>Releases</h1><p class="problem" role="alert">${said(problem)}</p></div>`;
  if (standing === null) return html`<div class="notice"><h1>Releases</h1><p class="quiet-text">Asking the control plane…</p></div>`;
  const channels = [...new Set([...standing.channels.map((it) => it.channel), ...shown.rollouts.map((it) => it.channel)])].sort();
  return html`
    <div class="title"><h1>Releases</h1></div>
    <div class="column">
      ${standing.problem ? html`<p class="problem" role="alert">The release directory cannot be read: ${said(standing.problem)}</p>` : nothing}
      ${channels.map(channel)} ${refused(standing)} ${leftOut(standing)}
      ${channels.length ? nothing : html`<p class="quiet-text">Nothing is in force, and no rollout was ever opened.</p>`}
    </div>
  `;
}

/** @param {number} head */
async function ask(head) {
  shown.isAsked = true;
  try {
    /** @type {Rollout[]} */
    const rollouts = [];
    let after = "";
    do {
      /** @type {import("../types/api").RolloutPage} */
      const page = await read(`/v1/rollouts?limit=500${after}`);
      rollouts.push(...page.rollouts);
      after = page.next ? `&after=${encodeURIComponent(page.next)}` : "";
    } while (after);
    shown.standing = await read("/v1/releases");
    shown.rollouts = rollouts;
    shown.problem = "";
  } catch (error) {
    shown.problem = problemText(error);
  }
  shown.head = head;
  shown.isAsked = false;
  redraw.dispatchEvent(new Event("redraw"));
}

/** @param {string} name */
function channel(name) {
  const inForce = shown.standing?.channels.find((it) => it.channel === name);
  const rollouts = shown.rollouts.filter((it) => it.channel === name).reverse();
  const aside = inForce
    ? html`<span class="facts"><span>in force: <b>${said(inForce.rolloutId, 80)}</b></span><span>signed ${time(inForce.signedAt)} UTC</span>${fresh(inForce.staleAt)}</span>`
    : html`<span class="quiet-text">nothing is in force</span>`;
  return panel(
    name,
    html`<table>
      <thead><tr><th scope="col">Release</th><th scope="col">Rollout</th><th scope="col">By</th><th scope="col">Opened</th><th scope="col" class="number">Converged</th><th scope="col" class="number">Failed</th><th scope="col" class="number">Waves</th><th scope="col">Closure</th><th scope="col"><span class="only-read">What it changed, and its story</span></th></tr></thead>
      <tbody>${rollouts.map((it) => row(it, it.rolloutId === inForce?.rolloutId))}</tbody>
    </table>`,
    { aside },
  );
}

/** @param {string} staleAt */
function fresh(staleAt) {
  const isStale = Date.parse(staleAt) <= nowMillis();
  return html`<span class=${isStale ? "problem" : ""}>${isStale ? "stale since" : "hosts take it until"} ${time(staleAt)} UTC, ${distance(staleAt)}</span>`;
}

/**
 * @param {Rollout} it
 * @param {boolean} isInForce
 */
function row(it, isInForce) {
  const overview = fleet.live?.rollouts.find((other) => other.rolloutId === it.rolloutId);
  const waves = it.waves ?? [];
  const total = waves.reduce((sum, wave) => sum + wave.total, 0);
  const converged = waves.reduce((sum, wave) => sum + wave.converged, 0);
  const failed = waves.reduce((sum, wave) => sum + wave.failed, 0);
  return html`<tr data-tone=${HALTED.has(it.state) ? "bad" : "plain"}>
    <th scope="row">${said(it.rolloutId.slice(it.channel.length + 1), 80)}${isInForce ? html` <small>in force</small>` : nothing}</th>
    <td>${overview ? overview.course : OUTCOMES[it.state] ?? it.state}</td>
    <td>${said(overview?.author, 60)}</td>
    <td>${time(it.openedAt)} <span class="quiet-text">${distance(it.openedAt)}</span></td>
    <td class="number">${waves.length ? `${number(converged)} of ${number(total)}` : ""}</td>
    <td class="number">${waves.length ? number(failed) : ""}</td>
    <td class="number">${waves.filter((wave) => wave.wave !== undefined).length || ""}</td>
    <td>${overview?.closure ? html`<code title=${visible(overview.closure)}>${said(short(overview.closure), 60)}</code>` : overview ? `${number(overview.closures)} closures` : nothing}</td>
    <td><span class="row"><button class="quiet" aria-expanded=${opened.has(it.rolloutId) ? "true" : "false"} @click=${() => toggle(it.rolloutId)}>changes</button><a href=${storyLink({ rollout: it.rolloutId })}>story</a></span></td>
  </tr>
  ${opened.has(it.rolloutId) ? html`<tr class="detail"><td colspan="9">${releaseDetail(it.rolloutId)}</td></tr>` : nothing}`;
}

/** @type {Set<string>} */
const opened = new Set();

/** @param {string} rolloutId */
function toggle(rolloutId) {
  if (!opened.delete(rolloutId)) opened.add(rolloutId);
  redraw.dispatchEvent(new Event("redraw"));
}

const HALTED = new Set(["Failed", "Reverted", "Aborted"]);
/** @type {Readonly<Record<string, string>>} */
const OUTCOMES = { Terminal: "complete", Failed: "halted", Reverted: "halted, rolled back", Aborted: "aborted", Superseded: "superseded", Pruned: "over, its records removed" };

/** @param {Standing} standing */
function refused(standing) {
  if (!standing.refused.length) return nothing;
  return panel(
    "Refused artefacts",
    html`<ul class="gates">${standing.refused.map((it) => html`<li><p><b>${said(it.name, 160)}</b> since ${time(it.since)} UTC</p><p>${said(it.reason, 600)}</p></li>`)}</ul>`,
    { kind: "urgent" },
  );
}

/** @param {Standing} standing */
function leftOut(standing) {
  const lines = standing.leftOut ?? [];
  return lines.length ? panel("Left out of the start", html`<ul class="lines">${lines.map((it) => html`<li>${said(it, 600)}</li>`)}</ul>`) : nothing;
}
