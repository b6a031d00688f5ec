/** @file What only a person moves: each with what is so, since when, who may answer, and the commands that answer it. */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { fleet } from "../data/live.js";
import { distance } from "../data/time.js";
import * as commands from "./commands.js";
import { liftingOf } from "./holds.js";
import { hostLink } from "./route.js";
import { said, time } from "./text.js";

/**
 * @typedef {import("../data/notifier.js").ShownNeed} Need
 * @typedef {import("../types/api").RolloutOverview} RolloutOverview
 */

/** @param {readonly Need[]} needs */
export function needsList(needs) {
  return html`<ul class="needs">${needs.map((need) => html`<li data-kind=${need.kind}>
    <p>${said(need.text)}</p>
    <p class="quiet-text">${said(need.answer)}</p>
    ${when(need)} ${commands.commandButtons(answersTo(need))}
  </li>`)}</ul>`;
}

/** @param {Need} need */
export function when(need) {
  const names = need.who ?? [];
  const facts = [
    need.since ? html`since ${time(need.since)} UTC, ${distance(need.since)}` : nothing,
    need.until ? html`until ${time(need.until)} UTC, ${distance(need.until)}` : nothing,
    names.length ? html`for ${said(names.join(", "), 120)}` : need.role === "read" ? nothing : html`for any operator`,
  ].filter((it) => it !== nothing);
  return facts.length ? html`<p class="facts">${facts.map((it) => html`<span>${it}</span>`)}</p>` : nothing;
}

/**
 * Return the commands of this page that answer a need; none for what is answered elsewhere.
 * @param {Need} need
 * @returns {readonly commands.Command[]}
 */
export function answersTo(need) {
  if (!commands.mayCommand()) return [];
  const rollout = fleet.overview?.rollouts.find((it) => it.rolloutId === need.rolloutId);
  const taken = namesOf(need.commands ?? (need.command ? [need.command] : []));
  switch (need.kind) {
    case "approval": {
      const guards = rollout?.waves.find((it) => it.wave === need.wave)?.guards;
      if (!rollout || !guards) return [];
      const isWaivable = guards.guards.some((it) => it.isWaivable);
      /** @type {readonly ("approve" | "deny" | "promote")[]} */
      const decisions = isWaivable ? ["approve", "deny", "promote"] : ["approve", "deny"];
      return decisions.map((it) => commands.statement(rollout, guards.wave, guards.manifestHash, it));
    }
    case "halted":
      return rollout ? [commands.clear(rollout), commands.retry(rollout, []), commands.abort(rollout)].filter((it) => taken.has(it.name)) : [];
    case "quarantine":
      return need.channel && need.subject ? [commands.retire(need.channel, need.subject)] : [];
    case "hold":
      return need.subject && taken.size ? [liftingOf(need.subject, need.holder)] : [];
    case "lapsed":
    case "overdue":
      return rollout ? [commands.skip(rollout, hostsIn(need)), commands.excuse(rollout, hostsIn(need))].filter((it) => taken.has(it.name)) : [];
    default:
      return [];
  }
}

/**
 * Return the names of commands that the control plane would take now.
 * @param {readonly string[]} lines as `nixfleet operator` takes them
 */
export function namesOf(lines) {
  return new Set(lines.map((it) => it.split(" ")[0]));
}

/**
 * Return the hosts that the commands of a need name.
 * @param {Need} need
 */
function hostsIn(need) {
  return (need.command ?? "").split(" ").slice(2);
}

/** @param {Need} need */
export function subjectLink(need) {
  const isHost = need.subject !== undefined && [...fleet.hosts.values()].some((it) => it.names.includes(/** @type {string} */ (need.subject)));
  return isHost ? html`<a href=${hostLink(/** @type {string} */ (need.subject))}>${said(need.subject, 80)}</a>` : nothing;
}
