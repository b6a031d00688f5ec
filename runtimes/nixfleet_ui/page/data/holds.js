/** @file What holds hosts now: asked for while a screen shows it, once for each row of the log. */

import { read } from "./api.js";
import { fleet, problemText } from "./live.js";

/** @typedef {import("../types/api").ListedHold} Hold */

let head = -1;
let isAsked = false;
/** @type {{holds: readonly Hold[], problem: string, isKnown: boolean}} */
const known = { holds: [], problem: "", isKnown: false };

/** Return the holds that are on, the widest first. */
export function holdsNow() {
  const current = fleet.live?.head ?? -1;
  if (current !== head && !isAsked) void ask(current);
  return known;
}

/** @param {number} asked */
async function ask(asked) {
  isAsked = true;
  try {
    /** @type {import("../types/api").HoldList} */
    const list = await read("/v1/holds");
    known.holds = [...list.holds].sort((one, other) => width(one.scope) - width(other.scope));
    known.problem = "";
    known.isKnown = true;
  } catch (error) {
    known.problem = problemText(error);
  }
  head = asked;
  isAsked = false;
  fleet.changed("fleet");
}

/**
 * How wide a scope is, by the form of its text: the fleet, a channel, hosts of it, a rollout, a wave, a host.
 * @param {string} scope
 */
function width(scope) {
  if (scope === "fleet:all") return 0;
  if (scope.startsWith("host:")) return 5;
  if (scope.startsWith("wave:")) return 4;
  if (scope.startsWith("group:")) return 2;
  return scope.includes("@") ? 3 : 1;
}
