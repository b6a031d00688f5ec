/** @file The chain of hashes over the log: verified by the control plane when somebody asks, since that reads all of it. */

import { read } from "./api.js";
import { fleet, problemText } from "./live.js";

/** How many hashes one question gives. */
const HASHES_MAX = 500;

/**
 * @type {{
 *   isAsked: boolean, problem: string, text: string, isBroken: boolean, first: number, intactTo: number, hashes: Map<number, string>
 * }}
 */
export const chain = { isAsked: false, problem: "", text: "", isBroken: false, first: 0, intactTo: 0, hashes: new Map() };

/**
 * Verify the whole chain, and learn the hashes of the rows from `first` to `last`, or of the last of them.
 * @param {number} first
 * @param {number} last
 */
export async function verify(first, last) {
  if (chain.isAsked) return;
  chain.isAsked = true;
  fleet.changed("fleet");
  try {
    const after = Math.max(first - 1, last - HASHES_MAX, 0);
    /** @type {import("../types/api").LogChain} */
    const found = await read(`/v1/log/chain?after=${after}&limit=${HASHES_MAX}`);
    for (const { seq, hash } of found.hashes) chain.hashes.set(seq, hash);
    chain.text = found.text;
    chain.first = found.first;
    chain.intactTo = found.intactTo;
    chain.isBroken = found.brokenAt !== undefined;
    chain.problem = "";
  } catch (error) {
    chain.problem = problemText(error);
  }
  chain.isAsked = false;
  fleet.changed("fleet");
}

/**
 * Whether the chain was verified over a row.
 * @param {number} seq
 */
export function isVerified(seq) {
  return chain.first > 0 && seq >= chain.first && seq <= chain.intactTo;
}
