/**
 * @file Text of hosts and operators, made safe to show. It is always bound as text; here its characters are made visible.
 * The same rule as `nixfleet_runtime.kernel.visible`: a test holds the two together.
 */

/** How many characters of a text are shown before "show all". */
export const SHOWN_MAX = 280;

/** Controls, format characters, surrogates, private and unassigned characters, and blanks other than the space. */
const HIDDEN = /[\p{C}\p{Z}]/gu;

/**
 * Return `text` on one line, with every character that cannot be seen as \xNN, \uNNNN or \UNNNNNNNN.
 * @param {string} text
 * @returns {string}
 */
export function visible(text) {
  return text.replace(HIDDEN, (each) => (each === " " ? " " : escaped(each)));
}

/**
 * Return the lines of a longer text, such as the end of a program's output: its line ends stay, all else is visible.
 * @param {string} text
 * @returns {string}
 */
export function visibleLines(text) {
  return text.split("\n").map((line) => visible(line.replace(/\r$/, "").replaceAll("\t", "    "))).join("\n");
}

/** @param {string} character */
function escaped(character) {
  const code = /** @type {number} */ (character.codePointAt(0));
  if (code <= 0xff) return `\\x${code.toString(16).padStart(2, "0")}`;
  if (code <= 0xffff) return `\\u${code.toString(16).padStart(4, "0")}`;
  return `\\U${code.toString(16).padStart(8, "0")}`;
}

const COUNT = new Intl.NumberFormat("en-US");

/**
 * Return a number of things with its thousands apart.
 * @param {number} count
 */
export function number(count) {
  return COUNT.format(count);
}

/**
 * Return a closure's name with its hash cut to 8 characters, as `log show` has it.
 * @param {string} closure
 */
export function short(closure) {
  const dash = closure.indexOf("-");
  return dash < 0 ? closure.slice(0, 8) : `${closure.slice(0, Math.min(8, dash))}${closure.slice(dash)}`;
}
