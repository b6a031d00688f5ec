/** @file How a host's state is drawn: a colour and a mark each, so that no state is told by its colour alone. */

import { STATES } from "./hosts.js";

/** @typedef {(typeof STATES)[number]} State */

/**
 * What stands for a state in a line of text.
 * @type {Readonly<Record<State, string>>}
 */
export const GLYPHS = {
  Pending: "·",
  Deferred: "‖",
  Activating: "▸",
  Soaking: "◐",
  Converged: "✓",
  Failed: "✕",
  Reverted: "↶",
};

/** @param {State} state */
export function isFailure(state) {
  return state === "Failed" || state === "Reverted";
}

/**
 * Return the colours of the states as the style sheet has them now, light or dark.
 * @returns {Record<State, {fill: string, mark: string}>}
 */
export function palette() {
  const style = getComputedStyle(document.documentElement);
  const found = /** @type {Record<State, {fill: string, mark: string}>} */ ({});
  for (const state of STATES) {
    const name = state.toLowerCase();
    found[state] = { fill: resolved(style, `--${name}`), mark: resolved(style, `--${name}-mark`) };
  }
  return found;
}

const probe = document.createElement("span");

/**
 * A canvas takes no light-dark(): the browser resolves it on an element.
 * @param {CSSStyleDeclaration} _style
 * @param {string} property
 */
function resolved(_style, property) {
  if (!probe.isConnected) {
    probe.hidden = true;
    document.body.append(probe);
  }
  probe.style.setProperty("color", `var(${property})`);
  return getComputedStyle(probe).color;
}
