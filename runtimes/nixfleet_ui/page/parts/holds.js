/** @file What holds hosts now: holds of operators, freezes, windows and the rest, each with what ends it. */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { holdsNow } from "../data/holds.js";
import { fleet } from "../data/live.js";
import { number } from "../data/text.js";
import { distance } from "../data/time.js";
import { commandButton, mayCommand, ofHost, release, resumeScope } from "./commands.js";
import { panel, said, time } from "./text.js";

/** @typedef {import("../types/api").ListedHold} Hold */

/** @type {Readonly<Record<string, string>>} */
const KINDS = {
  operator: "hold",
  contradiction: "contradiction",
  revocation: "revocation",
  device: "device",
  freeze: "freeze",
  window: "window",
  "not-before": "time of a wave",
};

/**
 * A panel with the holds that are on; none where the fleet is shown as it was, of which they are not known.
 * @param {number} max
 * @param {{isWhole?: boolean}} [options]
 */
export function holdsPanel(max, options = {}) {
  if (fleet.past) return nothing;
  const { holds, problem, isKnown } = holdsNow();
  if (problem) return panel("Held now", html`<p class="problem" role="alert">${said(problem)}</p>`);
  if (!isKnown || (!holds.length && !options.isWhole)) return nothing;
  const rest = holds.length - max;
  const content = holds.length
    ? html`<ul class="holds">${holds.slice(0, max).map((it) => line(it, options.isWhole ?? false))}</ul>
        ${rest > 0 ? html`<p class="quiet-text">and ${number(rest)} more, on narrower scopes</p>` : nothing}`
    : html`<p class="quiet-text">No hold, no freeze and no window keeps a host from beginning.</p>`;
  const aside = options.isWhole ? html`<span class="quiet-text">${number(holds.length)}</span>` : html`<a href="#/decide">${holds.length === 1 ? "what ends it" : `all ${number(holds.length)}`}</a>`;
  return panel("Held now", content, { aside });
}

/**
 * @param {Hold} hold
 * @param {boolean} isWhole
 */
function line(hold, isWhole) {
  const [kind] = hold.source.split(":", 1);
  const name = hold.source.slice(kind.length + 1);
  const command = isWhole ? lifting(hold) : null;
  return html`<li data-source=${KINDS[kind] ? kind : "other"}>
    <p><span class="hold-kind">${KINDS[kind] ?? said(kind, 30)}</span> ${said(hold.text ?? `${hold.scope}: ${hold.reason}`, 400)}</p>
    <p class="facts">
      ${hold.holder ? html`<span>by ${said(hold.holder, 60)}</span>` : name ? html`<span>${said(name, 60)}</span>` : nothing}
      ${hold.since ? html`<span>since ${time(hold.since)} UTC, ${distance(hold.since)}</span>` : nothing}
      <span>${hold.until ? html`until ${time(hold.until)} UTC, ${distance(hold.until)}` : "without an end"}</span>
    </p>
    ${isWhole && hold.answer ? html`<p class="quiet-text">${said(hold.answer)}</p>` : nothing}
    ${command ? html`<div class="buttons">${commandButton(command)}</div>` : nothing}
  </li>`;
}

/**
 * The command that ends a hold, as far as one does and this operator may give it.
 * @param {{source: string, scope: string, holder?: string, isLiftable?: boolean}} hold
 */
function lifting(hold) {
  return hold.isLiftable && mayCommand() ? liftingOf(hold.scope, hold.holder) : null;
}

/**
 * @param {string} scope
 * @param {string | undefined} holder
 */
export function liftingOf(scope, holder) {
  if (holder !== undefined) return release(scope, holder);
  return scope.startsWith("host:") ? ofHost(scope.slice("host:".length), "resume") : resumeScope(scope);
}
