/** @file The line over every screen that says that the fleet is shown as it was, moves to another row, and leads back. */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { fleet } from "../data/live.js";
import { asking, showNow, showPast } from "../data/past.js";
import { number } from "../data/text.js";
import { said, time } from "./text.js";

export function pastBanner() {
  const { past } = fleet;
  if (past === null && !asking.seq && !asking.problem) return nothing;
  const head = fleet.live?.head ?? 1;
  return html`<aside class="past" aria-label="The past" data-row=${past?.seq ?? 0}>
    ${past ? html`<p><b>The past: the fleet as of row ${number(past.seq)}</b>, written ${time(past.at, { seconds: true })} UTC. Commands are off. Story and Releases show what there is today.</p>` : nothing}
    ${asking.seq ? html`<p role="status">Replaying the log up to row ${number(asking.seq)}…</p>` : nothing}
    ${asking.problem ? html`<p class="problem" role="alert">${said(asking.problem, 400)}</p>` : nothing}
    <div class="row">
      ${past
        ? html`<button class="plain" ?disabled=${past.seq <= 1} @click=${() => void showPast(past.seq - 1)}>Row before</button>
            <label>Row <input type="range" min="1" max=${head} .value=${String(past.seq)} aria-valuetext=${`row ${past.seq}`} @change=${chosen} /></label>
            <button class="plain" ?disabled=${past.seq >= head} @click=${() => void showPast(past.seq + 1)}>Row after</button>`
        : nothing}
      <button class="primary" @click=${showNow}>Back to now</button>
    </div>
  </aside>`;
}

/** @param {Event} event */
function chosen(event) {
  void showPast(Number(/** @type {HTMLInputElement} */ (event.target).value));
}
