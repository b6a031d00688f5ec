/** @file What a release changed, and back-tests: asked for by release, when somebody opens it. */

import { read, segment } from "./api.js";
import { fleet, problemText } from "./live.js";

/**
 * @template T
 * @typedef {{found: T | null, problem: string, isAsked: boolean}} Study
 */

/** @type {Map<string, Study<any>>} */
const known = new Map();

/**
 * Return what a release changed, and ask for it if that was not done.
 * @param {string} rolloutId
 * @returns {Study<import("../types/api").ReleaseChanges>}
 */
export function changesOf(rolloutId) {
  const path = `/v1/rollouts/${segment(rolloutId)}/changes`;
  return known.get(path) ?? ask(path);
}

/**
 * Return the back-test of a release's policy, if it was asked for.
 * @param {string} rolloutId
 * @returns {Study<import("../types/api").BackTestReport> | undefined}
 */
export function backTestOf(rolloutId) {
  return known.get(backTestPath(rolloutId));
}

/** @param {string} rolloutId */
export function startBackTest(rolloutId) {
  ask(backTestPath(rolloutId));
}

/** @param {string} rolloutId */
function backTestPath(rolloutId) {
  return `/v1/rollouts/${segment(rolloutId)}/backtest`;
}

/** @param {string} path */
function ask(path) {
  /** @type {Study<any>} */
  const study = { found: null, problem: "", isAsked: true };
  known.set(path, study);
  void answer(path, study);
  return study;
}

/**
 * @param {string} path
 * @param {Study<any>} study
 */
async function answer(path, study) {
  try {
    study.found = await read(path);
  } catch (error) {
    study.problem = problemText(error);
  }
  study.isAsked = false;
  fleet.changed("fleet");
}
