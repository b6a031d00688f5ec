/** @file The hosts of a rollout in columns: a character each, small enough to be asked for again and again. */

import { read, segment } from "./api.js";

/**
 * @typedef {{
 *   rolloutId: string,
 *   members: string,
 *   names: readonly string[],
 *   waves: Int32Array,
 *   states: Uint8Array,
 *   standings: string,
 *   standingNames: readonly string[],
 * }} Hosts
 */

/** The states, in the order in which they are shown. A column of states holds places in this list. */
export const STATES = /** @type {const} */ (["Pending", "Deferred", "Activating", "Soaking", "Converged", "Failed", "Reverted"]);

const ZERO = "0".charCodeAt(0);

/**
 * Return the hosts of a rollout. Names and waves are the same objects as in `known` while the members are the same, so
 * that a map need not be laid out again. Throws: Refused.
 * @param {string} rolloutId
 * @param {Hosts | undefined} known
 * @param {AbortSignal} signal
 * @returns {Promise<Hosts>}
 */
export async function hostsOf(rolloutId, known, signal) {
  const asked = known ? `?members=${encodeURIComponent(known.members)}` : "";
  /** @type {import("../types/api").HostMap} */
  const found = await read(`/v1/rollouts/${segment(rolloutId)}/hosts${asked}`, signal);
  return hostsFrom(found, known);
}

/**
 * Return the hosts of an answer. known: whose names and waves it is about if it has none, or the same.
 * @param {import("../types/api").HostMap} found
 * @param {Hosts | undefined} known
 * @returns {Hosts}
 */
export function hostsFrom(found, known) {
  const places = found.stateNames.map((name) => Math.max(0, STATES.indexOf(/** @type {any} */ (name))));
  const states = Uint8Array.from({ length: found.states.length }, (_, at) => places[found.states.charCodeAt(at) - ZERO] ?? 0);
  const isKnown = known !== undefined && (found.names === undefined || found.members === known.members);
  const names = isKnown ? known.names : (found.names ?? []);
  const waves = isKnown ? known.waves : wavesOf(found);
  return { rolloutId: found.rolloutId, members: found.members, names, waves, states, standings: found.standings, standingNames: found.standingNames };
}

/** @param {import("../types/api").HostMap} found */
function wavesOf(found) {
  const waves = new Int32Array(found.states.length).fill(-1);
  let at = 0;
  for (const { wave, hosts } of found.waves) {
    waves.fill(wave ?? -1, at, at + hosts);
    at += hosts;
  }
  return waves;
}

/**
 * How a host counts, if not by its state: `excused`, `away` and the like.
 * @param {Hosts} hosts
 * @param {number} index
 */
export function standingOf(hosts, index) {
  const place = hosts.standings.charCodeAt(index) - ZERO;
  return place > 0 ? hosts.standingNames[place] : undefined;
}
