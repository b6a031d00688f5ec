/** @file The screen Host: where one host stands, what holds it and what frees it, its life, its probes, its last words. */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { read, segment } from "../data/api.js";
import { STATES, standingOf } from "../data/hosts.js";
import { fleet, problemText } from "../data/live.js";
import { number, short, visible, visibleLines } from "../data/text.js";
import { distance, duration } from "../data/time.js";
import { commandButton, excuse, mayCommand, ofHost, recall, retry, skip } from "../parts/commands.js";
import { namesOf } from "../parts/needs.js";
import { storyLink } from "../parts/route.js";
import { toneOf } from "../parts/story_lines.js";
import { panel, redraw, said, stateOf, time } from "../parts/text.js";

/**
 * @typedef {import("../types/api").HostWhole} HostWhole
 * @typedef {import("../types/api").HostRecordPage} RecordPage
 */

/** @type {{name: string, head: number, whole: HostWhole | null, problem: string, isAsked: boolean}} */
let shown = { name: "", head: -1, whole: null, problem: "", isAsked: false };

/** @param {string} name */
export function host(name) {
  if (name === "") return choice();
  if (fleet.past) return then(name);
  const head = fleet.rows.at(-1)?.seq ?? fleet.overview?.head ?? 0;
  if (shown.name !== name) shown = { name, head: -1, whole: null, problem: "", isAsked: false };
  if (shown.head !== head && !shown.isAsked && concerns(name)) void ask(shown, head);
  const { whole, problem } = shown;
  if (problem) return html`<div class="notice"><h1>${said(name, 120)}</h1><p class="problem" role="alert">${said(problem)}</p></div>`;
  if (whole === null) return html`<div class="notice"><h1>${said(name, 120)}</h1><p class="quiet-text">Asking the control plane…</p></div>`;
  return html`
    <div class="title"><h1>${said(whole.hostname, 120)}</h1>${buttons(whole)}</div>
    ${whole.records.map(record)}
    ${panel("In sentences", html`<ul class="lines">${whole.lines.map((line) => html`<li>${said(line, 600)}</li>`)}</ul>`)}
  `;
}

/** A host is asked for again when a row since the last time names it, or anything that may free it happened. */
function concerns(/** @type {string} */ name) {
  return shown.whole === null || fleet.rows.some((row) => row.seq > shown.head && (row.host === name || row.host === undefined));
}

/**
 * @param {typeof shown} asked
 * @param {number} head
 */
async function ask(asked, head) {
  asked.isAsked = true;
  try {
    asked.whole = await read(`/v1/hosts/${segment(asked.name)}`);
    asked.problem = "";
  } catch (error) {
    asked.problem = problemText(error);
  }
  asked.head = head;
  asked.isAsked = false;
  redraw.dispatchEvent(new Event("redraw"));
}

/**
 * Where a host stood at the row that is shown: by the maps, which is all that is replayed of single hosts.
 * @param {string} name
 */
function then(name) {
  const found = [...fleet.hosts.values()].flatMap((hosts) => {
    const at = hosts.names.indexOf(name);
    return at < 0 ? [] : [{ hosts, at }];
  });
  return html`
    <div class="title"><h1>${said(name, 120)}</h1></div>
    ${found.length ? nothing : html`<p class="quiet-text">It was in no rollout that was open then.</p>`}
    ${found.map(({ hosts, at }) => {
      const standing = standingOf(hosts, at);
      const wave = hosts.waves[at];
      return panel(
        hosts.rolloutId,
        html`<dl class="pairs">
          <dt>state</dt><dd>${stateOf(STATES[hosts.states[at]])}</dd>
          <dt>wave</dt><dd>${wave < 0 ? "none" : wave}</dd>
          ${standing ? html`<dt>counts as</dt><dd>${standing}</dd>` : nothing}
        </dl>`,
      );
    })}
    <p><a href=${storyLink({ host: name })}>its rows in the story</a></p>
  `;
}

function choice() {
  return html`<div class="notice"><h1>Which host?</h1><p>Find it by a part of its name: press <kbd>/</kbd>. Or open it from the map, or from a row of the story.</p></div>`;
}

/** @param {HostWhole} whole */
function buttons(whole) {
  if (!mayCommand()) return nothing;
  const record = whole.records[0];
  const explained = whole.explained.rollouts.find((it) => it.rolloutId === record?.rolloutId);
  const taken = namesOf(explained?.status?.commands ?? []);
  const ofRecord = record
    ? record.state === "Converged"
      ? [recall(record, [whole.hostname])]
      : [retry, skip, excuse].map((it) => it(record, [whole.hostname])).filter((it) => taken.has(it.name))
    : [];
  const isHeld = record?.gates.some((gate) => gate.gate === "operator-hold") ?? false;
  return html`<div class="buttons">${[...ofRecord, ofHost(whole.hostname, isHeld ? "resume" : "pause")].map(commandButton)}</div>`;
}

/** @param {RecordPage} record */
function record(record) {
  return html`<div class="split">
    <div class="column">
      <section class="panel" aria-label="Where it stands">
        <p class="card-text">${said(record.headline, 400)}</p>
        <dl class="pairs">
          <dt>state</dt><dd>${stateOf(record.state)}${record.since ? html` <span class="quiet-text">since ${time(record.since)} UTC, ${distance(record.since)}</span>` : nothing}</dd>
          <dt>rollout</dt><dd>${said(record.rolloutId, 120)}${record.wave === undefined ? ", in no wave" : `, wave ${record.wave}`}</dd>
          <dt>counts</dt><dd>${record.standing === "counted" ? "by its state" : record.standing}</dd>
          ${record.attempts > 1 ? html`<dt>attempt</dt><dd>${record.attempt} of ${record.attempts}</dd>` : nothing}
          <dt>runs</dt><dd>${closure(record.runs)}${record.isDrifted ? html` <b class="problem">drifted</b>` : nothing}</dd>
          <dt>should run</dt><dd>${closure(record.shouldRun)}</dd>
          ${record.ranBefore ? html`<dt>ran before</dt><dd>${closure(record.ranBefore)}</dd>` : nothing}
          ${record.until ? html`<dt>until</dt><dd>${time(record.until)} UTC, ${distance(record.until)}</dd>` : nothing}
          <dt>last heard</dt><dd>${heard()}</dd>
        </dl>
      </section>
      ${failure(record)} ${gates(record)} ${rows(record)}
    </div>
    <div class="column side">${moments(record)} ${probes(record)}</div>
  </div>`;
}

/** @param {string | undefined} name */
function closure(name) {
  return name ? html`<code title=${visible(name)}>${said(short(name), 120)}</code>` : html`<span class="quiet-text">not reported</span>`;
}

function heard() {
  const explained = shown.whole?.explained;
  if (!explained?.lastHeardAt) return html`<span class="quiet-text">not since the control plane started</span>`;
  const off = explained.clockAheadSeconds || explained.clockBehindSeconds;
  const way = explained.clockAheadSeconds ? "ahead" : "behind";
  return html`${time(explained.lastHeardAt, { seconds: true })} UTC, ${distance(explained.lastHeardAt)}${off ? `, its clock ${duration(off)} ${way}` : nothing}`;
}

/** @param {RecordPage} record */
function failure(record) {
  const found = record.failure;
  if (!found) return nothing;
  return panel(
    "Why it failed",
    html`<p>${said(found.text, 1000)}</p>
      <p class="facts">${found.at ? html`<span>${time(found.at, { seconds: true })} UTC</span>` : nothing}${found.exitCode === undefined ? nothing : html`<span>exit code ${found.exitCode}</span>`}</p>
      ${found.stderrTail ? html`<pre class="output" tabindex="0" aria-label="What the switch wrote at its end">${visibleLines(found.stderrTail)}</pre>` : nothing}`,
    { kind: "urgent" },
  );
}

/** @param {RecordPage} record */
function gates(record) {
  if (!record.gates.length) return nothing;
  return panel(
    "What holds it",
    html`<ul class="gates">${record.gates.map(
      (gate) => html`<li>
        <p><b>${gate.gate}</b>: ${said(gate.reason)}</p>
        ${gate.detail ? html`<p class="quiet-text">${said(gate.detail)}</p>` : nothing}
        <p>${said(gate.frees)}</p>
        <p class="facts">${gate.since ? html`<span>since ${time(gate.since)} UTC, ${distance(gate.since)}</span>` : nothing}${gate.until ? html`<span>until ${time(gate.until)} UTC, ${distance(gate.until)}</span>` : nothing}</p>
      </li>`,
    )}</ul>`,
  );
}

/** @param {RecordPage} record */
function moments(record) {
  if (!record.moments.length) return nothing;
  return panel(
    "Its life",
    html`<ol class="stages">${record.moments.map((moment, index) => {
      const before = record.moments[index - 1];
      const took = before ? (Date.parse(moment.at) - Date.parse(before.at)) / 1000 : null;
      return html`<li><span class="quiet-text">${moment.kind.replaceAll("-", " ")}</span> ${time(moment.at, { seconds: true })} <span class="quiet-text">${took === null ? nothing : `after ${duration(took)}`}</span></li>`;
    })}</ol>
    ${usual()}`,
  );
}

/** How long stages take in this fleet, beside what this host took. */
function usual() {
  const stages = fleet.forecast?.stages.filter((it) => it.p50Seconds !== undefined && it.p95Seconds !== undefined) ?? [];
  if (!stages.length) return nothing;
  return html`<table class="usual">
    <caption class="quiet-text">In this fleet</caption>
    <thead><tr><th scope="col">Stage</th><th scope="col" class="number">Half in</th><th scope="col" class="number">95 of 100 in</th></tr></thead>
    <tbody>${stages.map((it) => html`<tr><th scope="row">${it.stage}</th><td class="number">${duration(it.p50Seconds ?? 0)}</td><td class="number">${duration(it.p95Seconds ?? 0)}</td></tr>`)}</tbody>
  </table>`;
}

/** @param {RecordPage} record */
function probes(record) {
  if (!record.probes.length) return nothing;
  return panel(
    "Probes",
    html`<ul class="gates">${record.probes.map(
      (probe) => html`<li>
        <p><b>${said(probe.name, 80)}</b> ${probe.status ?? "no result yet"}${probe.mode ? html` <span class="quiet-text">${probe.mode}</span>` : nothing}</p>
        ${probe.failureReason ? html`<p>${said(probe.failureReason)}</p>` : nothing}
        <p class="facts">${probe.lastObservedAt ? html`<span>seen ${time(probe.lastObservedAt, { seconds: true })}</span>` : nothing}${probe.failingSince ? html`<span>failing since ${time(probe.failingSince)}</span>` : nothing}</p>
      </li>`,
    )}</ul>`,
  );
}

/** @param {RecordPage} record */
function rows(record) {
  const link = storyLink({ host: shown.name, rollout: record.rolloutId });
  if (!record.rows.length) return nothing;
  return panel(
    "Its rows of the log",
    html`<table class="story-table">
      <thead><tr><th class="seq" scope="col">Row</th><th class="at" scope="col">UTC</th><th scope="col">What happened</th><th class="of" scope="col">Signature</th></tr></thead>
      <tbody>${record.rows.map(
        (row) => html`<tr data-tone=${toneOf(row)}>
          <td>${number(row.seq)}</td><td>${time(row.ts, { seconds: true })}</td><td><b>${said(row.actor, 60)}</b> ${said(row.text ?? row.kind)}</td>
          <td><code>${row.signature ? said(row.signature.slice(0, 16), 20) : "none"}</code></td>
        </tr>`,
      )}</tbody>
    </table>`,
    { aside: html`<a href=${link}>all of them</a>` },
  );
}
