/** @file The screen Now: how the rollout goes, its waves, a cell for each host, and what only a person moves. */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import "../parts/map.js";
import { STATES } from "../data/hosts.js";
import { fleet } from "../data/live.js";
import { notifierNeeds } from "../data/notifier.js";
import { number, short, visible } from "../data/text.js";
import { distance, duration } from "../data/time.js";
import { commandButton, commandsOf } from "../parts/commands.js";
import { holdsPanel } from "../parts/holds.js";
import { hostTable } from "../parts/host_table.js";
import { needsList } from "../parts/needs.js";
import { hostLink, storyLink } from "../parts/route.js";
import { storyLines } from "../parts/story_lines.js";
import { bar, legend, panel, said, time } from "../parts/text.js";

/**
 * @typedef {import("../types/api").RolloutOverview} RolloutOverview
 * @typedef {import("../types/api").OverviewWave} Wave
 */

/** Below this many hosts a table, with the reason, says more than a map. */
const TABLE_MAX = 60;

let isTable = /** @type {boolean | null} */ (null);

export function now() {
  const overview = fleet.overview;
  const rollout = fleet.shown;
  if (!overview) return nothing;
  if (!rollout) {
    return html`<div class="notice"><h1>No rollout is open</h1><p>The control plane has no release in force. Publish one, and it appears here.</p></div>
      <div class="column">${needsPanel([...overview.needsYou, ...ofNotifier()])} ${holdsPanel(4)}</div>`;
  }
  return html`
    ${channels(overview.rollouts, rollout)}
    <div class="split">
      <div class="column">
        ${headline(rollout)} ${wavesPanel(rollout)} ${hostsPanel(rollout)}
        ${fleet.past ? nothing : panel("Story", storyLines(fleet.rows, rollout.rolloutId), { aside: html`<a href=${storyLink({ rollout: rollout.rolloutId })}>all of it</a>` })}
      </div>
      <div class="column side">
        ${needsPanel([...rollout.needsYou, ...overview.needsYou, ...ofNotifier()])} ${holdsPanel(4)} ${waitsPanel(rollout)} ${slowPanel(rollout)} ${nextPanel(rollout)} ${riskPanel(rollout)}
      </div>
    </div>
  `;
}

/**
 * @param {readonly RolloutOverview[]} rollouts
 * @param {RolloutOverview} shown
 */
function channels(rollouts, shown) {
  if (rollouts.length < 2) return nothing;
  return html`<nav class="channels" aria-label="Rollouts">
    ${rollouts.map(
      (it) => html`<button aria-pressed=${it === shown ? "true" : "false"} data-course=${it.course} @click=${() => choose(it.rolloutId)}>
        <span class="verdict" data-course=${it.course} aria-hidden="true"></span>${said(it.rolloutId, 60)} <small>${it.course}, ${it.percent} %</small>
      </button>`,
    )}
  </nav>`;
}

/** @param {string} rolloutId */
function choose(rolloutId) {
  fleet.chosen = rolloutId;
  fleet.changed("fleet");
}

/** @param {RolloutOverview} rollout */
function headline(rollout) {
  const facts = [
    html`opened ${time(rollout.openedAt)} UTC, ${distance(rollout.openedAt)}`,
    rollout.author ? html`by ${said(rollout.author, 60)}` : nothing,
    rollout.closure ? html`<span title=${visible(rollout.closure)}>${said(short(rollout.closure), 60)}</span>` : html`${number(rollout.closures)} closures`,
    rollout.onFailure ? html`on failure ${rollout.onFailure}` : nothing,
    rollout.isInForce ? nothing : html`<b>not in force any more</b>`,
    ends(rollout),
  ];
  return html`<section class="headline" data-course=${rollout.course} aria-label="The rollout">
    <div>
      <h1>${said(rollout.headline, 400)}</h1>
      <p class="facts">${facts.filter((it) => it !== nothing).map((it) => html`<span>${it}</span>`)}</p>
    </div>
    <div class="buttons">${commandsOf(rollout).map((it) => commandButton(it))}</div>
  </section>`;
}

/**
 * When it is done, as a range: by the forecast, of which this is one run in ten, the half, and nine in ten.
 * @param {RolloutOverview} rollout
 */
function ends(rollout) {
  const found = fleet.forecast?.rollouts?.find((it) => it.rolloutId === rollout.rolloutId)?.done;
  if (!found?.p10 || rollout.course === "complete") return nothing;
  return html`done ${found.p90 ? html`between ${time(found.p10)} and ${time(found.p90)}` : html`not before ${time(found.p10)}`}${found.p50 ? html`, most likely ${time(found.p50)}` : nothing} UTC`;
}

/** @param {RolloutOverview} rollout */
function slowPanel(rollout) {
  const slow = fleet.forecast?.slow?.filter((it) => it.rolloutId === rollout.rolloutId) ?? [];
  if (!slow.length) return nothing;
  return panel(
    "Takes longer than usual",
    html`<ul class="lines">${slow.slice(0, 8).map(
        (it) => html`<li><a href=${hostLink(it.host)}>${said(it.host, 60)}</a> ${it.stage} for ${duration((Date.parse(fleet.overview?.now ?? "") - Date.parse(it.since)) / 1000)} <span class="quiet-text">95 of 100 took ${duration(it.p95Seconds)} at most</span></li>`,
      )}</ul>
      ${slow.length > 8 ? html`<p class="quiet-text">and ${number(slow.length - 8)} more</p>` : nothing}`,
  );
}

/** @param {RolloutOverview} rollout */
function wavesPanel(rollout) {
  return panel("Waves", html`<ol class="waves">${rollout.waves.map(wave)}</ol>`);
}

/** @param {Wave} it */
function wave(it) {
  const name = it.wave === undefined || it.wave === null ? "No wave" : `Wave ${it.wave}`;
  const lacking = it.guards?.guards.filter((guard) => !LETS_BEGIN.has(guard.state)) ?? [];
  return html`<li data-verdict=${it.verdict} aria-current=${it.isCurrent ? "step" : nothing}>
    <p class="wave-name"><b>${name}</b> <span class="verdict-word" data-verdict=${it.verdict}>${MARKS[it.verdict] ?? ""} ${it.verdict === "waiting" ? "waits" : said(it.text, 120)}</span> <span class="percent">${it.percent} %</span></p>
    ${bar(it.states, it.total)}
    <p>${number(it.converged)} of ${number(it.total)}${it.allowed || it.failed ? ` · ${number(it.failed)} of ${number(it.allowed)} failed` : nothing}${it.absent ? ` · ${number(it.absent)} not waited for` : nothing} · soak ${duration(it.soakSeconds)}</p>
    ${it.waitsFor ? html`<p>${said(it.waitsFor)}</p>` : nothing}
    ${(it.waitsFor ? [] : lacking).map((guard) => html`<p class="guard" data-guard=${guard.state}>${said(guard.text)}</p>`)}
    ${it.bakeUntil && !it.guards ? html`<p class="quiet-text">bakes until ${time(it.bakeUntil)} UTC</p>` : nothing}
  </li>`;
}

const LETS_BEGIN = new Set(["satisfied", "waived"]);
/** @type {Record<string, string>} */
const MARKS = { done: "✓", going: "▸", waiting: "", halted: "■", broken: "✕" };

/** @param {RolloutOverview} rollout */
function hostsPanel(rollout) {
  const hosts = fleet.hosts.get(rollout.rolloutId);
  const isShownAsTable = isTable ?? (hosts !== undefined && hosts.names.length < TABLE_MAX);
  const aside = html`<div class="row">
    ${legend(hosts ? counts(hosts) : rollout.states)}
    <button class="quiet" aria-pressed=${isShownAsTable ? "true" : "false"} @click=${() => showTable(!isShownAsTable)}>${isShownAsTable ? "as a map" : "as a table"}</button>
  </div>`;
  const content = !hosts
    ? html`<p class="quiet-text">The records of its hosts are not kept any more.</p>`
    : isShownAsTable
      ? hostTable(hosts)
      : html`<fleet-map .hosts=${hosts} @opened=${opened}></fleet-map>`;
  return panel("Hosts", content, { aside });
}

/** @param {import("../data/hosts.js").Hosts} hosts */
function counts(hosts) {
  /** @type {Record<string, number>} */
  const found = {};
  for (const state of hosts.states) found[STATES[state]] = (found[STATES[state]] ?? 0) + 1;
  return found;
}

/** @param {boolean} shown */
function showTable(shown) {
  isTable = shown;
  fleet.changed("fleet");
}

/** @param {CustomEvent<string>} event */
function opened(event) {
  location.hash = hostLink(event.detail);
}

/** What needs a person at the notifier: it is about no rollout. */
function ofNotifier() {
  return fleet.past ? [] : notifierNeeds(fleet.notifier);
}

/** @param {readonly import("../data/notifier.js").ShownNeed[]} needs */
function needsPanel(needs) {
  const content = needs.length ? needsList(needs.slice(0, 5)) : html`<p class="quiet-text">Nothing waits for a person.</p>`;
  const aside = needs.length ? html`<a href="#/decide">${needs.length > 5 ? `all ${needs.length}` : "decide"}</a>` : nothing;
  return panel("Needs you", content, { aside, kind: needs.length ? "urgent" : "plain" });
}

/** @param {RolloutOverview} rollout */
function waitsPanel(rollout) {
  if (!rollout.waits.length) return panel("Why hosts wait", html`<p class="quiet-text">No host waits.</p>`);
  return panel(
    "Why hosts wait",
    html`<ul class="waits">${rollout.waits.map(
        (it) => html`<li>
          <p><b>${number(it.hosts)} ${it.hosts === 1 ? "host" : "hosts"}</b>: ${said(it.reason)}</p>
          ${it.detail && it.detail !== it.reason ? html`<p class="quiet-text">${said(it.detail)}</p>` : nothing}
          <p class="quiet-text">
            ${it.gate}${it.since ? html` · since ${time(it.since)} (${duration((Date.parse(fleet.overview?.now ?? "") - Date.parse(it.since)) / 1000)})` : nothing}${it.until ? html` · until ${time(it.until)} UTC` : nothing}
          </p>
        </li>`,
      )}</ul>
      ${rollout.moreWaiting ? html`<p class="quiet-text">and ${number(rollout.moreWaiting)} more for other reasons</p>` : nothing}`,
  );
}

/** @param {RolloutOverview} rollout */
function nextPanel(rollout) {
  const content = rollout.next.length
    ? html`<dl class="edges">${rollout.next.slice(0, 6).map((it) => html`<dt>${time(it.at)}</dt><dd>${said(it.text)}</dd>`)}</dl>`
    : html`<p class="quiet-text">Nothing comes at a known time.</p>`;
  return panel("What comes next", content, { aside: html`<a href="#/next">all, in UTC</a>` });
}

/** @param {RolloutOverview} rollout */
function riskPanel(rollout) {
  const risk = rollout.risk;
  if (!risk) return nothing;
  return panel("If it went wrong now", html`<ul class="lines">${risk.lines.map((it) => html`<li>${said(it)}</li>`)}</ul>`);
}

