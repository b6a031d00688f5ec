/** @file Times as people read them, always in UTC and saying so. "Now" is the control plane's time, where it is known. */

let ahead = 0;

/**
 * Note the control plane's time, which durations are counted to.
 * @param {string} now
 */
export function setNow(now) {
  ahead = Date.parse(now) - Date.now();
}

/** @type {number | null} */
let stoppedAt = null;

/**
 * Let the time be that of the past that is shown; `null`: it goes on.
 * @param {string | null} at
 */
export function stopNow(at) {
  stoppedAt = at === null ? null : Date.parse(at);
}

/** Return the time of the fleet that is shown, in milliseconds since 1970: the control plane's, or that of the past. */
export function nowMillis() {
  return stoppedAt ?? Date.now() + ahead;
}

/**
 * Return the time of day, with the date if it is not today's: `02:32:29` or `14 May 02:32`.
 * @param {string | undefined} at
 * @param {{seconds?: boolean}} [options]
 */
export function clock(at, options = {}) {
  if (at === undefined) return "";
  const then = new Date(at);
  if (Number.isNaN(then.getTime())) return at;
  const iso = then.toISOString();
  const isToday = iso.slice(0, 10) === new Date(nowMillis()).toISOString().slice(0, 10);
  const time = options.seconds ? iso.slice(11, 19) : iso.slice(11, 16);
  return isToday ? time : `${then.getUTCDate()} ${MONTHS[then.getUTCMonth()]} ${time}`;
}

/** @type {readonly string[]} */
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/**
 * Return a whole time for a title: `2026-05-16 02:32:29 UTC`.
 * @param {string | undefined} at
 */
export function whole(at) {
  return at === undefined ? "" : `${at.replace("T", " ").replace(/(\.\d+)?Z$/, "")} UTC`;
}

/**
 * Return a length of time in one or two units: `45 s`, `12 min`, `1 h 30 min`, `3 d 4 h`.
 * @param {number} seconds
 */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 90) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${hours / 24} d`;
}

/**
 * Return how long ago a time was, or how long until it comes.
 * @param {string} at
 */
export function distance(at) {
  const seconds = (nowMillis() - Date.parse(at)) / 1000;
  return seconds >= 0 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`;
}
