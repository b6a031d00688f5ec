/**
 * @file The fleet as it was at a row of the log: replayed by the control plane, shown by this tab alone. Everything that
 * reads `fleet.overview` shows it then, commands are off, and times are counted to when the row was written.
 */

import { read } from "./api.js";
import { hostsFrom } from "./hosts.js";
import { fleet, problemText } from "./live.js";
import { stopNow } from "./time.js";

/** What is asked for: `seq` 0 means nothing is. */
export const asking = { seq: 0, problem: "" };

/** @param {number} seq */
export async function showPast(seq) {
  asking.seq = seq;
  asking.problem = "";
  fleet.changed("fleet");
  try {
    /** @type {import("../types/api").Past} */
    const found = await read(`/v1/past?row=${seq}`);
    if (asking.seq !== seq) return; // Another row was chosen meanwhile.
    const known = fleet.past?.hosts;
    const hosts = new Map(found.hosts.map((it) => [it.rolloutId, hostsFrom(it, known?.get(it.rolloutId))]));
    fleet.past = { seq, at: found.at, overview: found.overview, hosts };
    stopNow(found.at);
  } catch (error) {
    if (asking.seq !== seq) return;
    asking.problem = problemText(error);
  }
  asking.seq = 0;
  fleet.changed("fleet");
}

export function showNow() {
  asking.seq = 0;
  asking.problem = "";
  fleet.past = null;
  stopNow(null);
  fleet.changed("fleet");
}
