/** @file What a release changed against the one before, whom it touches, what it may cost, and a back-test of its policy. */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { backTestOf, changesOf, startBackTest } from "../data/studies.js";
import { number } from "../data/text.js";
import { duration } from "../data/time.js";
import { redraw, said } from "./text.js";

/**
 * @typedef {import("../types/api").ReleaseChanges} Changes
 * @typedef {import("../types/api").BackTestReport} BackTest
 * @typedef {import("../types/api").TestedPolicy} Policy
 */

/** Sections with more lines than this are closed at first. */
const OPEN_MAX = 12;

/** @param {string} rolloutId */
export function releaseDetail(rolloutId) {
  const { found, problem } = changesOf(rolloutId);
  if (problem) return html`<p class="problem" role="alert">${said(problem, 600)}</p>`;
  if (found === null) return html`<p class="quiet-text">Asking the control plane to compare the releases…</p>`;
  return html`<div class="release-detail">
    <div>${touched(found)} ${changes(found)}</div>
    <div>${backTest(rolloutId)}</div>
  </div>`;
}

/** @param {Changes} found */
function touched(found) {
  return html`<h3>Whom it touches</h3>
    <p>${number(found.touched)} of ${number(found.hosts)} hosts get another closure${found.before ? html` than from ${said(found.before, 80)}` : ": it is the first release of its channel"}.</p>
    <p>${said(found.worstText, 200)}.</p>
    <table class="compact">
      <thead><tr><th scope="col">Wave</th><th scope="col" class="number">Hosts</th><th scope="col" class="number">Touched</th></tr></thead>
      <tbody>${found.waves.map((it) => html`<tr><th scope="row">${it.wave ?? "none"}</th><td class="number">${number(it.hosts)}</td><td class="number">${number(it.touched)}</td></tr>`)}</tbody>
    </table>`;
}

/** @param {Changes} found */
function changes(found) {
  const sections = found.sections ?? [];
  if (!found.before) return nothing;
  return html`<h3>What it changes</h3>
    ${sections.length ? nothing : html`<p class="quiet-text">Nothing for hosts that run the release before.</p>`}
    ${sections.map(
      (it) => html`<details ?open=${it.lines.length <= OPEN_MAX}>
        <summary>${it.heading}, ${number(it.lines.length + (it.more ?? 0))}</summary>
        <ul class="lines">${it.lines.map((line) => html`<li>${said(line, 400)}</li>`)}</ul>
        ${it.more ? html`<p class="quiet-text">and ${number(it.more)} more</p>` : nothing}
      </details>`,
    )}`;
}

/** @param {string} rolloutId */
function backTest(rolloutId) {
  const study = backTestOf(rolloutId);
  const title = html`<h3>Back-test of its policy</h3>`;
  if (study === undefined || study.problem) {
    return html`${title}
      <p class="quiet-text">What its waves, tolerances and budgets would have done to the other releases of its channel, by the log.</p>
      ${study?.problem ? html`<p class="problem" role="alert">${said(study.problem, 400)}</p>` : nothing}
      <p><button class="plain" @click=${() => start(rolloutId)}>Back-test it</button></p>`;
  }
  if (study.found === null) return html`${title}<p role="status">Playing the log under both policies…</p>`;
  return html`${title} ${report(study.found)}`;
}

/** @param {string} rolloutId */
function start(rolloutId) {
  startBackTest(rolloutId);
  redraw.dispatchEvent(new Event("redraw"));
}

/** @param {BackTest} found */
function report(found) {
  const [recorded, other] = found.policies;
  return html`<table>
      <thead><tr><th scope="col">Policy</th><th scope="col" class="number">Hosts harmed</th><th scope="col" class="number">Hours</th><th scope="col" class="number">Peak in flight</th><th scope="col" class="number">Ended</th><th scope="col" class="number">Taken to succeed</th></tr></thead>
      <tbody>${found.policies.map((it) => html`<tr><th scope="row">${said(it.policy, 80)}</th><td class="number">${number(it.harmed)}</td><td class="number">${(it.seconds / 3600).toFixed(1)}</td><td class="number">${number(it.inFlightMax)}</td><td class="number">${it.ended} of ${it.rollouts.length}</td><td class="number">${number(it.assumed)}</td></tr>`)}</tbody>
    </table>
    ${recorded && other ? rollouts(recorded, other) : nothing}
    ${(found.differing ?? []).length ? html`<p class="problem" role="alert">Under the recorded policy ${said((found.differing ?? []).join(", "), 400)} would not end when it did: compare the policies with each other, and not with the log.</p>` : nothing}
    ${(found.kept ?? []).map((it) => html`<p class="quiet-text">${said(it, 300)}</p>`)}
    ${found.policies.flatMap((it) => (it.notes ?? []).map((note) => html`<p class="quiet-text">${said(`${it.policy}: ${note}`, 300)}</p>`))}
    <details><summary>What is assumed</summary><ul class="lines">${found.assumptions.map((it) => html`<li>${said(it, 400)}</li>`)}</ul></details>`;
}

/**
 * @param {Policy} recorded
 * @param {Policy} other
 */
function rollouts(recorded, other) {
  return html`<details ?open=${recorded.rollouts.length <= OPEN_MAX}>
    <summary>By release, recorded and with this policy</summary>
    <table class="compact">
      <thead><tr><th scope="col">Release</th><th scope="col" class="number">Took</th><th scope="col" class="number">Would take</th><th scope="col" class="number">Harmed</th><th scope="col" class="number">Would harm</th></tr></thead>
      <tbody>${recorded.rollouts.map((it) => {
        const instead = other.rollouts.find((each) => each.rolloutId === it.rolloutId);
        return html`<tr><th scope="row">${said(it.rolloutId, 80)}</th><td class="number">${took(it)}</td><td class="number">${instead ? took(instead) : ""}</td><td class="number">${number(it.harmed)}</td><td class="number">${instead ? number(instead.harmed) : ""}</td></tr>`;
      })}</tbody>
    </table>
  </details>`;
}

/** @param {{openedAt: string, endedAt?: string}} it */
function took(it) {
  return it.endedAt ? duration((Date.parse(it.endedAt) - Date.parse(it.openedAt)) / 1000) : "no end";
}
