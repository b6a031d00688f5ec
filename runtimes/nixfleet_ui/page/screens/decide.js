/** @file The screen Decide: a card for each thing that only a person moves. */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { fleet } from "../data/live.js";
import { commandButton } from "../parts/commands.js";
import { effectOf } from "../parts/preview.js";
import { answersTo, subjectLink, when } from "../parts/needs.js";
import { holdsPanel } from "../parts/holds.js";
import { redraw, said } from "../parts/text.js";

/** @typedef {import("../data/notifier.js").ShownNeed} Need */

const HOLDS_MAX = 100;

/** @type {Readonly<Record<string, string>>} */
const TITLES = {
  approval: "Approval",
  halted: "Halted rollout",
  aborted: "Aborted rollout",
  lost: "Lost rollout",
  quarantine: "Quarantine",
  hold: "Hold",
  lapsed: "Host that does not come",
  overdue: "Overdue host",
  unstaged: "Host in no wave",
  drift: "Drift",
  freshness: "Release that goes stale",
  artefact: "Refused artefact",
  "release-directory": "Release directory",
  "left-out": "Left out of the start",
  enrollment: "Enrollment",
  refusing: "Agent that refuses",
  notifier: "Notifier",
};

export function decide() {
  const overview = fleet.overview;
  if (!overview) return nothing;
  const { needs } = fleet;
  return html`
    <div class="title"><h1>${needs.length ? `${needs.length} ${needs.length === 1 ? "thing waits" : "things wait"} for a person` : "Nothing waits for a person"}</h1></div>
    ${needs.length ? nothing : html`<p class="quiet-text">No approval is open, no rollout is halted, and nothing is held without an end.</p>`}
    <div class="cards">${needs.map(card)}</div>
    <div class="column below">${holdsPanel(HOLDS_MAX, { isWhole: true })}</div>
  `;
}

/** @param {Need} need */
function card(need, /** @type {number} */ index) {
  const title = TITLES[need.kind] ?? need.kind;
  return html`<section class="panel" aria-labelledby=${`card-${index} card-text-${index}`} data-need=${need.kind}>
    <header><h2 id=${`card-${index}`}>${title}${need.rolloutId ? html` · ${said(need.rolloutId, 60)}` : nothing}${need.wave !== undefined ? html` · wave ${need.wave}` : nothing}</h2>${subjectLink(need)}</header>
    <p class="card-text" id=${`card-text-${index}`}>${said(need.text)}</p>
    ${when(need)}
    ${need.problem ? html`<p class="quiet-text">at the last attempt: ${said(need.problem, 200)}</p>` : nothing}
    <p>${said(need.answer)}</p>
    ${answers(need)}
    ${need.terminal ? html`<p class="quiet-text">In a terminal: <code>${said(need.terminal, 300)}</code></p>` : nothing}
    ${need.command ? html`<p class="quiet-text">In a terminal: <code>nixfleet operator ${said(need.command, 200)}</code></p>` : nothing}
  </section>`;
}


/**
 * The commands that answer a need, each with what it would do.
 * @param {Need} need
 */
function answers(need) {
  const commands = answersTo(need);
  if (!commands.length) return nothing;
  return html`<dl class="answers">${commands.map((command) => {
    const input = { reason: "", scope: command.scopes?.[0] ?? "", hosts: command.hosts?.initial ?? [], minutes: command.minutes?.initial ?? 0 };
    const isComplete = !command.hosts || command.hosts.isOptional || command.hosts.initial.length > 0;
    return html`<dt>${commandButton(command)}</dt><dd>${(isComplete ? effectOf(command.request(input), drawn) : null) ?? said(command.about)}</dd>`;
  })}</dl>`;
}

function drawn() {
  redraw.dispatchEvent(new Event("redraw"));
}
