/** @file The commands that a page may send: what each is called, what it asks for, and the request that it makes. */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { segment } from "../data/api.js";
import { fleet } from "../data/live.js";
import { openCommand } from "./dialog.js";

/**
 * @typedef {import("../types/api").RolloutOverview} RolloutOverview
 * @typedef {import("../types/api").Need} Need
 * @typedef {{reason: string, scope: string, hosts: readonly string[], minutes: number}} Input
 * @typedef {{path: string, body: Record<string, unknown>}} Request
 *
 * A command. about: what it does, as `nixfleet operator` says it. scopes: what it may be about, if there is a choice.
 * hosts: those that are asked for; `optional`: none named means all that it may be about. isSigned: the statement itself
 * is signed, not only the request, so it is shown first.
 * @typedef {{
 *   name: string, title: string, about: string, isGrave?: boolean,
 *   scopes?: readonly string[],
 *   hosts?: {isOptional: boolean, initial: readonly string[]},
 *   minutes?: {initial: number, max: number},
 *   isSigned?: boolean,
 *   request: (input: Input) => Request,
 * }} Command
 */

const LIVE = new Set(["Opening", "Active", "Converging"]);

/**
 * Return the commands that a rollout may take in its state. What answers a halt is among what needs a person.
 * @param {RolloutOverview} rollout
 * @returns {readonly Command[]}
 */
export function commandsOf(rollout) {
  if (!mayCommand()) return [];
  const isHeld = rollout.waits.some((it) => it.gate === "operator-hold");
  if (!LIVE.has(rollout.state)) return [];
  return isHeld ? [resume(rollout), abort(rollout)] : [pause(rollout), abort(rollout)];
}

/** Whether commands are offered: to an operator who may give them, of the fleet as it is and not as it was. */
export function mayCommand() {
  return fleet.past === null && fleet.session?.isReadOnly === false && fleet.overview?.you.role === "operate";
}

/** @param {Command} command */
export function commandButton(command) {
  return html`<button class=${command.isGrave ? "grave" : "plain"} @click=${() => openCommand(command)}>${command.title}…</button>`;
}

/** @param {readonly Command[]} commands */
export function commandButtons(commands) {
  return commands.length ? html`<div class="buttons">${commands.map(commandButton)}</div>` : nothing;
}

/** @param {string} scope */
function scopePath(scope) {
  if (scope.startsWith("host:")) return `/v1/hosts/${segment(scope.slice(5))}`;
  return scope.includes("@") ? `/v1/rollouts/${segment(scope)}` : `/v1/channels/${segment(scope)}`;
}

/**
 * @param {RolloutOverview} rollout
 * @returns {Command}
 */
export function pause(rollout) {
  return {
    name: "pause",
    title: "Pause",
    about: "Nothing more is dispatched, and what is queued is withdrawn. Hosts that have begun to switch go on.",
    scopes: [rollout.rolloutId, rollout.channel],
    request: ({ reason, scope }) => ({ path: `${scopePath(scope)}/pause`, body: { reason } }),
  };
}

/**
 * @param {RolloutOverview} rollout
 * @returns {Command}
 */
export function resume(rollout) {
  return {
    name: "resume",
    title: "Resume",
    about: "Dispatches to it go on, unless something else holds them.",
    scopes: [rollout.rolloutId, rollout.channel],
    request: ({ reason, scope }) => ({ path: `${scopePath(scope)}/resume`, body: { reason } }),
  };
}

/**
 * @param {{rolloutId: string}} rollout
 * @returns {Command}
 */
export function clear(rollout) {
  return {
    name: "clear",
    title: "Clear",
    about: "The halted rollout goes on without the hosts that failed: they count for nothing in it any more.",
    hosts: { isOptional: true, initial: [] },
    request: ({ reason, hosts }) => ({
      path: `/v1/rollouts/${segment(rollout.rolloutId)}/clear`,
      body: hosts.length ? { reason, excusedHosts: hosts } : { reason },
    }),
  };
}

/**
 * @param {{rolloutId: string}} rollout
 * @param {readonly string[]} hosts
 * @returns {Command}
 */
export function retry(rollout, hosts) {
  return {
    name: "retry",
    title: "Retry",
    about: "Hosts that failed try again. Nothing that is quarantined is retried, and a halted rollout has to be cleared besides.",
    hosts: { isOptional: true, initial: hosts },
    request: ({ reason, hosts: named }) => ({
      path: `/v1/rollouts/${segment(rollout.rolloutId)}/retry`,
      body: named.length ? { reason, hosts: named } : { reason },
    }),
  };
}

/**
 * @param {{rolloutId: string}} rollout
 * @returns {Command}
 */
export function abort(rollout) {
  return {
    name: "abort",
    title: "Abort",
    about: "It ends for good: no host is dispatched any more. Hosts that have begun finish, or fail, by their own policy. No clearance takes it back.",
    isGrave: true,
    request: ({ reason }) => ({ path: `/v1/rollouts/${segment(rollout.rolloutId)}/abort`, body: { reason } }),
  };
}

/**
 * @param {{rolloutId: string}} rollout
 * @param {readonly string[]} hosts
 * @returns {Command}
 */
export function excuse(rollout, hosts) {
  return {
    name: "excuse",
    title: "Excuse",
    about: "The rollout goes on without these hosts, whatever becomes of them. The next rollout counts them again.",
    hosts: { isOptional: false, initial: hosts },
    request: ({ reason, hosts: named }) => ({ path: `/v1/rollouts/${segment(rollout.rolloutId)}/excuse`, body: { hosts: named, reason } }),
  };
}

/**
 * @param {{rolloutId: string}} rollout
 * @param {readonly string[]} hosts
 * @returns {Command}
 */
export function skip(rollout, hosts) {
  return {
    name: "skip",
    title: "Skip",
    about: "The rollout does not wait for these hosts, which are silent. Each is served once it is heard of again.",
    hosts: { isOptional: false, initial: hosts },
    request: ({ reason, hosts: named }) => ({ path: `/v1/rollouts/${segment(rollout.rolloutId)}/skip`, body: { hosts: named, reason } }),
  };
}

/**
 * @param {string} channel
 * @param {string} closure
 * @returns {Command}
 */
export function retire(channel, closure) {
  return {
    name: "retire",
    title: "Retire the quarantine",
    about: "The channel may receive this closure again. Hosts that failed with it are not told to try again by this alone.",
    request: ({ reason }) => ({ path: `/v1/channels/${segment(channel)}/quarantines/retire`, body: { closure, reason } }),
  };
}

/**
 * @param {string} scope
 * @param {string} holder
 * @returns {Command}
 */
export function release(scope, holder) {
  return {
    name: "release",
    title: "Release the hold",
    about: `The hold of ${holder} on ${scope} ends. Other holds on it stay.`,
    request: ({ reason }) => ({ path: "/v1/holds/release", body: { scope, reason, holder } }),
  };
}

/**
 * @param {string} scope
 * @returns {Command}
 */
export function resumeScope(scope) {
  return {
    name: "resume",
    title: "Resume",
    about: "Dispatches to it go on, unless something else holds them.",
    request: ({ reason }) => ({ path: `${scopePath(scope)}/resume`, body: { reason } }),
  };
}

/**
 * @param {string} hostname
 * @param {"pause" | "resume"} name
 * @returns {Command}
 */
export function ofHost(hostname, name) {
  const isPause = name === "pause";
  return {
    name,
    title: isPause ? "Pause" : "Resume",
    about: isPause ? "Nothing is dispatched to this host." : "Dispatches to this host go on, also if it was held because it contradicted itself.",
    request: ({ reason }) => ({ path: `/v1/hosts/${segment(hostname)}/${name}`, body: { reason } }),
  };
}

/**
 * @param {RolloutOverview} rollout
 * @param {number} wave
 * @param {string} manifestHash
 * @param {"approve" | "deny" | "promote"} decision
 * @returns {Command}
 */
export function statement(rollout, wave, manifestHash, decision) {
  return {
    name: decision,
    title: { approve: "Approve", deny: "Deny", promote: "Promote" }[decision],
    about: {
      approve: "The wave begins when enough operators have approved, the wave before it is done, and its other guards are satisfied.",
      deny: "The rollout halts at once, whoever approved before.",
      promote: "The guards of this wave that its manifest lists as waivable are waived. What hosts prove by themselves is waived by nobody.",
    }[decision],
    isGrave: decision === "deny",
    isSigned: true,
    request: ({ reason }) => ({ path: "/local/approval", body: { rolloutId: rollout.rolloutId, wave, manifestHash, decision, reason } }),
  };
}

/**
 * @param {{rolloutId: string}} rollout
 * @param {readonly string[]} hosts
 * @returns {Command}
 */
export function recall(rollout, hosts) {
  return {
    name: "recall",
    title: "Recall",
    about: "Hosts go back to what they ran before. Each verifies the order against its own trust file. The rollout is aborted.",
    isGrave: true,
    isSigned: true,
    hosts: { isOptional: true, initial: hosts },
    minutes: { initial: 120, max: 7 * 24 * 60 },
    request: ({ reason, hosts: named, minutes }) => ({
      path: "/local/warrant",
      body: { rolloutId: rollout.rolloutId, rule: "prior", reason, expiresMinutes: minutes, hosts: named },
    }),
  };
}
