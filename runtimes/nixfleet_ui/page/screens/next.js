/**
 * @file The screen Next: each wave as a range on one axis, what comes by the clock, the hosts that are likely the last.
 * Ranges are the forecast's: one run in ten is earlier than its begin, nine in ten are over by its end.
 */

import { html, nothing, svg } from "../vendor/lit-html-3.3.3.js";
import { fleet } from "../data/live.js";
import { number } from "../data/text.js";
import { clock, distance, duration, nowMillis } from "../data/time.js";
import { hostLink } from "../parts/route.js";
import { panel, said, time } from "../parts/text.js";

/**
 * @typedef {import("../types/api").RolloutOverview} RolloutOverview
 * @typedef {import("../types/api").RolloutForecast} RolloutForecast
 * @typedef {import("../types/api").WaveForecast} WaveForecast
 * @typedef {import("../types/api").Span} Span
 * @typedef {{at: number, kind: string, text: string}} Edge
 */

const WIDTH = 1200;
const NAME_WIDTH = 150;
const ROW = 30;
const TOP = 26;

export function next() {
  const rollouts = fleet.overview?.rollouts ?? [];
  return html`
    <div class="title"><h1>What comes next</h1><p class="quiet-text">All times are UTC.</p></div>
    <div class="column">
      ${rollouts.map(rolloutPanel)}${rollouts.length ? nothing : html`<p class="quiet-text">No rollout is open.</p>`} ${basis()}
    </div>
  `;
}

/** @param {RolloutOverview} rollout */
function rolloutPanel(rollout) {
  const found = fleet.forecast?.rollouts?.find((it) => it.rolloutId === rollout.rolloutId);
  const edges = rollout.next.map((it) => ({ at: Date.parse(it.at), kind: it.kind, text: it.text }));
  return panel(
    rollout.rolloutId,
    html`${sentence(found)} ${axis(found?.waves ?? [], edges)}
      <div class="split">${wavesTable(found)} ${stragglers(found)}</div>
      ${edgesTable(rollout)}`,
    { aside: html`<span class="quiet-text">${rollout.course}, ${rollout.percent} %</span>` },
  );
}

/** @param {RolloutForecast | undefined} found */
function sentence(found) {
  if (!found) return nothing;
  return html`<dl class="pairs">
      <dt>95 of 100 hosts done</dt><dd>${range(found.most)}</dd>
      <dt>complete</dt><dd>${range(found.done)}</dd>
    </dl>
    ${(found.waits ?? []).map((it) => html`<p>${said(it)}</p>`)}`;
}

/** @param {Span | undefined} span */
function range(span) {
  if (!span?.p10) return html`<span class="quiet-text">not known</span>`;
  return html`${span.p90 ? html`${time(span.p10)} to ${time(span.p90)}` : html`not before ${time(span.p10)}`}${span.p50 ? html` <span class="quiet-text">half of the runs by ${time(span.p50)}</span>` : nothing}`;
}

/** @param {RolloutForecast | undefined} found */
function wavesTable(found) {
  if (!found?.waves?.length) return nothing;
  return html`<table>
    <thead><tr><th scope="col">Wave</th><th scope="col" class="number">Hosts</th><th scope="col">Begins</th><th scope="col">Ends</th></tr></thead>
    <tbody>${found.waves.map(
      (it) => html`<tr><th scope="row">${it.wave}</th><td class="number">${number(it.hosts)}</td><td>${it.beganAt ? html`began ${time(it.beganAt)}` : range(it.begins)}</td><td>${it.endedAt ? html`ended ${time(it.endedAt)}` : range(it.ends)}</td></tr>`,
    )}</tbody>
  </table>`;
}

/** @param {RolloutForecast | undefined} found */
function stragglers(found) {
  const hosts = found?.stragglers ?? [];
  if (!hosts.length) return html`<div></div>`;
  return html`<div><h3 class="quiet-text">Likely the last</h3><ul class="lines">${hosts.slice(0, 12).map((it) => html`<li><a href=${hostLink(it.host)}>${said(it.host, 60)}</a> ${said(it.why, 160)}, ${range(it.done)}</li>`)}</ul></div>`;
}

/** @param {RolloutOverview} rollout */
function edgesTable(rollout) {
  if (!rollout.next.length) return html`<p class="quiet-text">Nothing comes at a known time.</p>`;
  return html`<table>
    <thead><tr><th scope="col">At</th><th scope="col">In</th><th scope="col">What comes by the clock</th></tr></thead>
    <tbody>${rollout.next.map((it) => html`<tr><th scope="row">${time(it.at)}</th><td>${distance(it.at)}</td><td>${said(it.text)}</td></tr>`)}</tbody>
  </table>`;
}

/** What the ranges rest on, and how often they held. */
function basis() {
  if (fleet.past) return html`<p class="quiet-text">No ranges: a forecast is of the fleet as it is now.</p>`;
  const { forecast, forecastProblem } = fleet;
  if (forecast === null) return html`<p class="quiet-text">${forecastProblem ? said(`No ranges: ${forecastProblem}`) : "The forecast is being computed."}</p>`;
  const held = forecast.calibration;
  return panel(
    "What the ranges rest on",
    html`${forecast.unknown ? html`<p>${said(forecast.unknown, 600)}</p>` : html`<p>${number(forecast.runs)} runs of the planner on this fleet's own durations, as of row ${number(forecast.headSeq)}, ${distance(forecast.at)}.</p>`}
      ${held ? html`<p>Of the last ${held.ranges} rollouts ${held.held} ended within the range that was said when they were opened.</p>` : nothing}
      ${(forecast.assumptions ?? []).map((it) => html`<p class="quiet-text">${said(it)}</p>`)}
      <table>
        <thead><tr><th scope="col">Stage</th><th scope="col" class="number">Seen</th><th scope="col" class="number">Half in</th><th scope="col" class="number">95 of 100 in</th></tr></thead>
        <tbody>${forecast.stages.map((it) => html`<tr><th scope="row">${it.stage}</th><td class="number">${number(it.observations)}</td><td class="number">${it.p50Seconds === undefined ? "" : duration(it.p50Seconds)}</td><td class="number">${it.p95Seconds === undefined ? "" : duration(it.p95Seconds)}</td></tr>`)}</tbody>
      </table>`,
  );
}

/**
 * Waves as bars from the earliest begin to the latest end, and edges as marks. A reader of a screen has the tables.
 * @param {readonly WaveForecast[]} waves
 * @param {readonly Edge[]} edges
 */
function axis(waves, edges) {
  const now = nowMillis();
  const shown = waves.filter((it) => !it.endedAt);
  const ends = shown.map((it) => millis(it.ends?.p90 ?? it.ends?.p50 ?? it.ends?.p10)).filter((it) => it > now);
  const last = Math.max(now + 60_000, ...ends);
  const within = edges.filter((it) => !ends.length || it.at <= last);
  const to = Math.max(last, ...within.map((it) => it.at));
  if (!ends.length && !within.length) return nothing;
  const x = (/** @type {number} */ at) => NAME_WIDTH + (Math.max(0, Math.min(1, (at - now) / (to - now))) * (WIDTH - NAME_WIDTH - 40));
  const height = TOP + shown.length * ROW + (within.length ? ROW : 0) + 24;
  const axisY = height - 24;
  return html`<div class="axis wave-bars" aria-hidden="true">
    <svg viewBox=${`0 0 ${WIDTH} ${height}`} class="timeline">
      ${ticks(now, to).map((at) => svg`<line x1=${x(at)} x2=${x(at)} y1=${TOP - 6} y2=${axisY} class="grid"></line><text x=${x(at)} y=${height - 6} text-anchor="middle">${clock(new Date(at).toISOString())}</text>`)}
      <line x1=${x(now)} x2=${x(now)} y1="8" y2=${axisY} class="base"></line><text x=${x(now) + 5} y="16">now</text>
      ${shown.map((it, row) => waveBar(it, TOP + row * ROW, x))}
      ${within.map((it) => svg`<path d=${diamond(x(it.at), TOP + shown.length * ROW + 12)} data-kind=${it.kind}></path>`)}
      ${within.length ? svg`<text x="0" y=${TOP + shown.length * ROW + 17} class="name">by the clock</text>` : nothing}
    </svg>
  </div>`;
}

/**
 * Dark where it is at work in most runs, light between its earliest and its latest end.
 * @param {WaveForecast} it
 * @param {number} top
 * @param {(at: number) => number} x
 */
function waveBar(it, top, x) {
  const begin = it.beganAt ? nowMillis() : millis(it.begins?.p50 ?? it.begins?.p10);
  const early = millis(it.ends?.p10);
  const late = millis(it.ends?.p90);
  const name = svg`<text x="0" y=${top + 17} class="name">Wave ${it.wave}, ${number(it.hosts)}</text>`;
  if (!begin || !early) return name;
  const end = late || early;
  const middle = millis(it.ends?.p50);
  return svg`${name}
    <rect x=${x(begin)} y=${top + 4} width=${Math.max(2, x(early) - x(begin))} height="18" class="span"></rect>
    <rect x=${x(early)} y=${top + 4} width=${Math.max(2, x(end) - x(early))} height="18" class="ending"></rect>
    ${middle ? svg`<rect x=${x(middle) - 1} y=${top + 2} width="2" height="22" class="middle"></rect>` : nothing}`;
}

/** @param {string | undefined} at */
function millis(at) {
  return at === undefined ? 0 : Date.parse(at);
}

/**
 * @param {number} x
 * @param {number} y
 */
function diamond(x, y) {
  return `M${x} ${y - 7} l6 7 l-6 7 l-6 -7 z`;
}

const STEPS = [60, 300, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800].map((it) => it * 1000);

/**
 * @param {number} from
 * @param {number} to
 */
function ticks(from, to) {
  const step = STEPS.find((it) => (to - from) / it <= 8) ?? 604_800_000;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at < to; at += step) found.push(at);
  return found;
}
