/** @file Why single hosts wait: asked for while a table shows it, and only of fleets in which it fits into one answer. */

import { read } from "./api.js";
import { fleet } from "./live.js";

const HOSTS_MAX = 500;

let head = -1;
let isAsked = false;
/** @type {Map<string, string>} */
let reasons = new Map();

/**
 * Return why a host waits, as far as it is known by now.
 * @param {string} rolloutId
 * @param {string} hostname
 */
export function reasonOf(rolloutId, hostname) {
  if (fleet.past) return undefined; // They are asked for as of now.
  const overview = fleet.overview;
  const waiting = overview?.rollouts.reduce((sum, it) => sum + it.waiting, 0) ?? 0;
  if (overview && overview.head !== head && !isAsked && waiting <= HOSTS_MAX) void ask(overview.head);
  return reasons.get(`${rolloutId} ${hostname}`);
}

/** @param {number} asked */
async function ask(asked) {
  isAsked = true;
  head = asked;
  try {
    /** @type {import("../types/api").DeferralPage} */
    const page = await read(`/v1/deferrals?limit=${HOSTS_MAX}`);
    reasons = new Map(page.deferrals.map((it) => [`${it.rolloutId} ${it.hostname}`, `${it.gate}: ${it.reason}`]));
    fleet.changed("fleet");
  } catch {
    // The page says elsewhere that nobody answers; it is asked again with the next row.
  }
  isAsked = false;
}
