/**
 * @file The fleet as this page knows it, and how it stays current.
 *
 * One tab, the leader, follows the log and asks for the overview; it hands what it gets to the other tabs, which ask for
 * nothing. A browser has six connections for one origin: with a stream for each tab the seventh tab would never load.
 * Web Locks choose the leader; a hidden leader, whose timers a browser slows down, gives way to a visible tab.
 */

import { Refused, read } from "./api.js";
import { hostsOf } from "./hosts.js";
import { notifierNeeds, notifierStanding } from "./notifier.js";
import { setNow } from "./time.js";

/**
 * @typedef {import("../types/api").Overview} Overview
 * @typedef {import("../types/api").RolloutOverview} RolloutOverview
 * @typedef {import("../types/api").ListedRow} Row
 * @typedef {import("./hosts.js").Hosts} Hosts
 * @typedef {import("../types/api").Forecast} Forecast
 * @typedef {{operator: string, keyFingerprint: string, url: string, isReadOnly: boolean, version: string}} Session
 * @typedef {{isLive: boolean, problem: string | null, since: number}} Link
 * @typedef {{seq: number, at: string, overview: Overview, hosts: Map<string, Hosts>}} Past
 */

const LOCK = "nixfleet-ui-leader";
const ROWS_KEPT = 600;
const PAGE_LENGTH = 500;
const WAIT_SECONDS = 20;
const BATCH_MILLIS = 250;
const REFRESH_MILLIS = 1000;
const RETRY_MILLIS_MAX = 15_000;
const FORESEEN_MILLIS = 20_000;
const NOTIFIER_MILLIS = 15_000;
/** The share of the time that may be spent on asking for the fleet again. */
const REFRESH_SHARE = 0.2;

class Fleet extends EventTarget {
  /** @type {Session | null} */
  session = null;
  /**
   * The fleet as it is.
   * @type {Overview | null}
   */
  live = null;
  /**
   * The hosts as they are, by rollout.
   * @type {Map<string, Hosts>}
   */
  liveHosts = new Map();
  /**
   * The fleet as it was, if this tab shows that.
   * @type {Past | null}
   */
  past = null;
  /**
   * The last rows of the log, oldest first.
   * @type {Row[]}
   */
  rows = [];
  /** @type {Link} */
  link = { isLive: false, problem: null, since: Date.now() };
  isLeader = false;
  /**
   * What is to come, as ranges; `null`: not known yet, or never. Why, says `forecastProblem`.
   * @type {Forecast | null}
   */
  liveForecast = null;
  forecastProblem = "";
  /**
   * The notifier on this machine; `null`: not asked yet.
   * @type {import("./notifier.js").Standing | null}
   */
  notifier = null;

  /** The fleet that is shown. */
  get overview() {
    return this.past?.overview ?? this.live;
  }

  /**
   * What only a person moves in the fleet that is shown: of its rollouts, of none, and at the notifier.
   * @returns {readonly import("./notifier.js").ShownNeed[]}
   */
  get needs() {
    const overview = this.overview;
    const found = overview ? [...overview.rollouts.flatMap((it) => it.needsYou), ...overview.needsYou] : [];
    return this.past ? found : [...found, ...notifierNeeds(this.notifier)];
  }

  /** The hosts of the fleet that is shown, by rollout. */
  get hosts() {
    return this.past?.hosts ?? this.liveHosts;
  }

  /** What is to come of the fleet that is shown: nothing is foreseen of the past. */
  get forecast() {
    return this.past ? null : this.liveForecast;
  }

  /**
   * Say that something changed: "fleet", "rows" or "link".
   * @param {string} what
   */
  changed(what) {
    this.dispatchEvent(new CustomEvent("change", { detail: what }));
  }

  /**
   * The rollout that is shown: the chosen one, or the first that needs a look.
   * @returns {RolloutOverview | undefined}
   */
  get shown() {
    const rollouts = this.overview?.rollouts ?? [];
    return rollouts.find((it) => it.rolloutId === this.chosen) ?? [...rollouts].sort(byUrgency)[0];
  }

  /** @type {string | null} */
  chosen = null;
}

const URGENCY = ["lost", "halted", "has failures", "held", "going well", "aborted", "complete", "superseded"];

/**
 * @param {RolloutOverview} one
 * @param {RolloutOverview} other
 */
function byUrgency(one, other) {
  return URGENCY.indexOf(one.course) - URGENCY.indexOf(other.course);
}

export const fleet = new Fleet();
const channel = new BroadcastChannel("nixfleet-ui-fleet");

/** Begin. The first tab becomes the leader; the others listen, and one takes over when the leader goes. */
export async function follow() {
  void introduce();
  channel.onmessage = (event) => heard(event.data);
  channel.postMessage({ kind: "hello" });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !fleet.isLeader) channel.postMessage({ kind: "visible" });
  });
  for (;;) await navigator.locks.request(LOCK, lead);
}

/** Ask who signs: the fleet is asked for meanwhile. */
async function introduce() {
  try {
    fleet.session = await read("/local/session");
    fleet.changed("fleet");
  } catch (error) {
    setLink({ isLive: false, problem: problemText(error), since: Date.now() });
  }
}

/** @param {any} message */
function heard(message) {
  switch (message.kind) {
    case "hello":
      if (fleet.isLeader) tellAll();
      break;
    case "visible":
      if (fleet.isLeader && document.hidden) leading?.abort();
      break;
    case "fleet":
      take(message.overview, message.hosts);
      break;
    case "rows":
      takeRows(message.rows);
      break;
    case "forecast":
      takeForecast(message.forecast, message.problem);
      break;
    case "notifier":
      fleet.notifier = message.notifier;
      fleet.changed("fleet");
      break;
    case "link":
      fleet.link = message.link;
      fleet.changed("link");
      break;
  }
}

/** @type {AbortController | null} */
let leading = null;

/** Follow the log until another tab is to lead. */
async function lead() {
  const ending = (leading = new AbortController());
  fleet.isLeader = true;
  let wait = BATCH_MILLIS;
  /** @type {number | null} */
  let after = null;
  while (!ending.signal.aborted) {
    try {
      if (after === null) {
        after = await begin(ending.signal);
        wait = BATCH_MILLIS;
        setLink({ isLive: true, problem: null, since: Date.now() });
      }
      /** @type {import("../types/api").FeedPage} */
      const page = await read(`/v1/log?after=${after}&limit=${PAGE_LENGTH}&wait=${WAIT_SECONDS}`, ending.signal);
      after = page.next;
      if (page.events.length) {
        takeRows(page.events);
        channel.postMessage({ kind: "rows", rows: page.events });
      }
      refreshSoon(ending.signal);
      void foresee(ending.signal);
      void lookAtNotifier(ending.signal);
      setLink({ isLive: true, problem: null, since: Date.now() });
      wait = BATCH_MILLIS;
    } catch (error) {
      if (ending.signal.aborted) break;
      const problem = error instanceof Error ? error.message : String(error);
      // Another database, or the fleet was asked for too early: begin anew.
      after = null;
      setLink({ isLive: false, problem, since: fleet.link.isLive ? Date.now() : fleet.link.since });
      wait = Math.min(Math.max(wait, 500) * 2, RETRY_MILLIS_MAX);
    }
    await pause(wait, ending.signal);
  }
  fleet.isLeader = false;
}

/**
 * Read all there is, and return the row after which the log goes on.
 * @param {AbortSignal} signal
 */
async function begin(signal) {
  await refresh(signal);
  const head = fleet.live?.head ?? 0;
  /** @type {import("../types/api").FeedPage} */
  const page = await read(`/v1/log?after=${Math.max(0, head - 200)}&limit=200`, signal);
  fleet.rows = [];
  takeRows(page.events);
  tellAll();
  return Math.max(page.next, head);
}

let refreshedAt = 0;
let refreshMillis = 0;
let isRefreshing = false;
let isWanted = false;

/**
 * Ask for the fleet again soon: at most once a second, and for a fifth of the time.
 * @param {AbortSignal} signal
 */
function refreshSoon(signal) {
  if (isWanted) return;
  isWanted = true;
  const gap = Math.max(REFRESH_MILLIS, refreshMillis / REFRESH_SHARE);
  setTimeout(async () => {
    isWanted = false;
    if (signal.aborted || isRefreshing) return;
    try {
      await refresh(signal);
    } catch {
      // The log's request fails of the same, and says so.
    }
  }, Math.max(0, refreshedAt + gap - Date.now()));
}

/** @param {AbortSignal} signal */
async function refresh(signal) {
  isRefreshing = true;
  const began = Date.now();
  try {
    /** @type {Overview} */
    const overview = await read("/v1/overview", signal);
    const ids = overview.rollouts.filter((it) => it.course !== "lost").map((it) => it.rolloutId);
    const hosts = new Map(await Promise.all(ids.map((id) => hostsWithId(id, signal))));
    take(overview, hosts);
    channel.postMessage({ kind: "fleet", overview, hosts });
  } finally {
    isRefreshing = false;
    refreshedAt = Date.now();
    refreshMillis = refreshedAt - began;
  }
}

/**
 * @param {string} rolloutId
 * @param {AbortSignal} signal
 * @returns {Promise<[string, Hosts]>}
 */
async function hostsWithId(rolloutId, signal) {
  return [rolloutId, await hostsOf(rolloutId, fleet.liveHosts.get(rolloutId), signal)];
}

let foreseenAt = 0;
let foreseenHead = -1;

/**
 * Ask for the forecast, now and then: it is computed by a process of its own, from the whole log.
 * @param {AbortSignal} signal
 */
async function foresee(signal) {
  const head = fleet.live?.head ?? -1;
  if (Date.now() - foreseenAt < FORESEEN_MILLIS || head === foreseenHead) return;
  foreseenAt = Date.now();
  foreseenHead = head;
  try {
    takeForecast(await read("/v1/forecast", signal), "");
  } catch (error) {
    if (signal.aborted) return;
    // A control plane without forecasts stays without them.
    if (error instanceof Refused && error.problem.status === 404) foreseenAt = Number.MAX_SAFE_INTEGER;
    takeForecast(null, problemText(error));
  }
  channel.postMessage({ kind: "forecast", forecast: fleet.liveForecast, problem: fleet.forecastProblem });
}

let lookedAt = 0;

/**
 * Look at the notifier on this machine, now and then, as long as the process reads one.
 * @param {AbortSignal} signal
 */
async function lookAtNotifier(signal) {
  if (fleet.notifier?.isRead === false || Date.now() - lookedAt < NOTIFIER_MILLIS) return;
  lookedAt = Date.now();
  try {
    fleet.notifier = await notifierStanding(signal);
  } catch {
    return; // The process does not answer: the log's request says so.
  }
  fleet.changed("fleet");
  channel.postMessage({ kind: "notifier", notifier: fleet.notifier });
}

/**
 * @param {Forecast | null} forecast
 * @param {string} problem
 */
function takeForecast(forecast, problem) {
  fleet.liveForecast = forecast ?? fleet.liveForecast;
  fleet.forecastProblem = problem;
  fleet.changed("fleet");
}

/** Ask for the fleet at once, after a command. In another tab the leader hears of it by the log. */
export async function refreshNow() {
  if (fleet.isLeader && leading !== null && !isRefreshing) await refresh(leading.signal).catch(ignored);
}

function ignored() {
  // Whoever asked sees the same problem on the page.
}

/**
 * @param {Overview} overview
 * @param {Map<string, Hosts>} hosts
 */
function take(overview, hosts) {
  fleet.live = overview;
  fleet.liveHosts = hosts;
  setNow(overview.now);
  fleet.changed("fleet");
}

/** @param {readonly Row[]} rows */
function takeRows(rows) {
  fleet.rows = [...fleet.rows, ...rows].slice(-ROWS_KEPT);
  fleet.changed("rows");
}

/** @param {Link} link */
function setLink(link) {
  const isSame = link.isLive === fleet.link.isLive && link.problem === fleet.link.problem;
  fleet.link = link;
  if (isSame) return;
  fleet.changed("link");
  channel.postMessage({ kind: "link", link });
}

function tellAll() {
  if (fleet.live !== null) channel.postMessage({ kind: "fleet", overview: fleet.live, hosts: fleet.liveHosts });
  if (fleet.rows.length) channel.postMessage({ kind: "rows", rows: fleet.rows });
  channel.postMessage({ kind: "forecast", forecast: fleet.liveForecast, problem: fleet.forecastProblem });
  channel.postMessage({ kind: "notifier", notifier: fleet.notifier });
  channel.postMessage({ kind: "link", link: fleet.link });
}

/**
 * @param {number} millis
 * @param {AbortSignal} signal
 */
function pause(millis, signal) {
  return new Promise((resolve) => {
    const ending = setTimeout(done, millis);
    signal.addEventListener("abort", done, { once: true });
    function done() {
      clearTimeout(ending);
      signal.removeEventListener("abort", done);
      resolve(undefined);
    }
  });
}

/** @param {unknown} error */
export function problemText(error) {
  return error instanceof Refused || error instanceof Error ? error.message : String(error);
}
