/** @file The notifier on this machine, if the page's process reads one: hooks that need a person, as needs. */

import { read } from "./api.js";

/**
 * @typedef {{hook: string, text: string, answer: string, deadLetters: number, terminal: string, problem?: string, since?: string}} HookNeed
 * @typedef {{isRead: boolean, needs?: readonly HookNeed[], problem?: string}} Standing
 * @typedef {Omit<import("../types/api").Need, "kind"> & {kind: string, terminal?: string, problem?: string}} ShownNeed
 */

/**
 * Return how it stands. Throws: Refused.
 * @param {AbortSignal} signal
 * @returns {Promise<Standing>}
 */
export async function notifierStanding(signal) {
  return read("/local/notifier", signal);
}

/**
 * Return what needs a person at a notifier. No operator of the control plane answers it, but who runs the notifier.
 * @param {Standing | null} standing
 * @returns {readonly ShownNeed[]}
 */
export function notifierNeeds(standing) {
  if (!standing?.isRead) return [];
  /** @type {ShownNeed[]} */
  const found = (standing.needs ?? []).map((it) => ({ kind: "notifier", role: "read", who: [], commands: [], text: it.text, answer: it.answer, since: it.since, hosts: undefined, terminal: it.terminal, problem: it.problem }));
  if (standing.problem) found.push({ kind: "notifier", role: "read", who: [], commands: [], text: `The notifier's files cannot be read: ${standing.problem}`, answer: "What it has not told is not known here." });
  return found;
}
