/**
 * @file What a command would do: the control plane runs the fleet forward with it, and says so in its own sentences.
 * Asked before anything is sent, and without the reason, which changes nothing.
 */

import { html, nothing } from "../vendor/lit-html-3.3.3.js";
import { Refused, post } from "../data/api.js";
import { fleet, problemText } from "../data/live.js";
import { number } from "../data/text.js";
import { said } from "./text.js";

/**
 * @typedef {import("../types/api").Preview} Preview
 * @typedef {{path: string, body: Record<string, unknown>}} Request
 * @typedef {{found: Preview | null, problem: string, isAsked: boolean, head: number}} Asked
 */

const WAIT_MILLIS = 300;
const KEPT_MAX = 40;

/**
 * By the request.
 * @type {Map<string, Asked>}
 */
const asked = new Map();
let isOff = false;
let waiting = 0;

/**
 * What is shown of what a request would do. It is asked once for each row at which somebody looks; `drawn` is called when
 * there is an answer.
 * @param {Request} request
 * @param {() => void} drawn
 */
export function previewOf(request, drawn) {
  if (isOff) return nothing;
  const meant = meantBy(request);
  const key = JSON.stringify(meant);
  const known = asked.get(key);
  const head = fleet.overview?.head ?? 0;
  if (!known || (!known.isAsked && known.head !== head && known.problem !== "")) {
    clearTimeout(waiting);
    waiting = window.setTimeout(() => void ask(key, meant, head, drawn), WAIT_MILLIS);
  }
  return html`<section class="effects" aria-label="What it does" aria-live="polite">
    <h3>What it does</h3>
    ${answer(known)}
  </section>`;
}

/**
 * The same in few lines, for a card that shows several answers; `null` where the control plane gives none. Asked at
 * once, one after the other.
 * @param {Request} request
 * @param {() => void} drawn
 */
export function effectOf(request, drawn) {
  if (isOff) return null;
  const meant = meantBy(request);
  const key = JSON.stringify(meant);
  if (!asked.has(key)) {
    asked.set(key, { found: null, problem: "", isAsked: true, head: 0 });
    queue = queue.then(() => ask(key, meant, fleet.overview?.head ?? 0, drawn));
  }
  return answer(asked.get(key));
}

let queue = Promise.resolve();

/** @param {Asked | undefined} known */
function answer(known) {
  if (known?.problem) return html`<p class="quiet-text">${said(known.problem, 400)}</p>`;
  if (!known?.found) return html`<p class="quiet-text">Running the fleet forward…</p>`;
  const { found } = known;
  if (found.refused) return html`<p class="problem">It would be refused: ${said(found.refused, 600)}</p>`;
  return html`<ul class="lines">${found.sentences.map((it) => html`<li>${said(it, 400)}</li>`)}</ul>
    <p class="quiet-text">As of row ${number(found.headSeq)}${found.isCut ? ". The fleet is so large that it was not run to its end" : ""}.</p>`;
}

/**
 * @param {string} key
 * @param {Request} meant
 * @param {number} head
 * @param {() => void} drawn
 */
async function ask(key, meant, head, drawn) {
  if (asked.size > KEPT_MAX) asked.clear();
  asked.set(key, { found: null, problem: "", isAsked: true, head });
  try {
    asked.set(key, { found: await post("/v1/preview", meant), problem: "", isAsked: false, head });
  } catch (error) {
    if (error instanceof Refused && error.problem.status === 404) isOff = true;
    asked.set(key, { found: null, problem: problemText(error), isAsked: false, head });
  }
  drawn();
}

/** Forget what was asked: the fleet is another one after a command. */
export function forgetPreviews() {
  asked.clear();
}

/**
 * What the control plane is asked about: of a statement what is stated, since it is not signed yet.
 * @param {Request} request
 * @returns {Request}
 */
function meantBy({ path, body }) {
  const rollout = `/v1/rollouts/${encodeURIComponent(String(body.rolloutId ?? "")).replace(/%40/g, "@")}`;
  if (path === "/local/approval") return { path: `${rollout}/approvals`, body: { wave: body.wave, decision: body.decision } };
  if (path === "/local/warrant") return { path: `${rollout}/warrants`, body: { rule: body.rule, expiresMinutes: body.expiresMinutes, hosts: body.hosts } };
  return { path, body: { ...body, reason: "preview" } };
}
