/** @file Calls of this page: to its own process, which signs and forwards them to the control plane. */

/** @typedef {{type: string, title: string, status: number, detail?: string}} ProblemBody */

/** A call that failed: what the control plane, or the process, said. */
export class Refused extends Error {
  /** @param {ProblemBody} problem */
  constructor(problem) {
    super(problem.detail ? `${problem.title}: ${problem.detail}` : problem.title);
    this.problem = problem;
  }

  /** Whether nobody answered, so that it is worth asking again. */
  get isAway() {
    return this.problem.status >= 500;
  }
}

let token = "";

/** @param {string} secret */
export function useSecret(secret) {
  token = secret;
}

/**
 * Return what is at `path`. Throws: Refused.
 * @template T
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
export async function read(path, signal) {
  return asked(path, { method: "GET", signal });
}

/**
 * Send a command or a question, and return the answer, `null` if it has none. Throws: Refused.
 * @template T
 * @param {string} path
 * @param {unknown} body
 * @returns {Promise<T>}
 */
export async function post(path, body) {
  return asked(path, { method: "POST", body: JSON.stringify(body) });
}

/**
 * @template T
 * @param {string} path
 * @param {RequestInit} options
 * @returns {Promise<T>}
 */
async function asked(path, options) {
  /** @type {Response} */
  let answer;
  try {
    answer = await fetch(path, {
      ...options,
      headers: { "X-Nixfleet-Ui-Token": token, "Content-Type": "application/json" },
      credentials: "omit",
      cache: "no-store",
      redirect: "error",
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refused({ type: "about:blank", title: "The page's process does not answer", status: 599, detail: "start `nixfleet ui` again" });
  }
  const text = await answer.text();
  if (answer.ok) return text === "" ? /** @type {any} */ (null) : JSON.parse(text);
  throw new Refused(problemOf(text, answer));
}

/**
 * @param {string} text
 * @param {Response} answer
 * @returns {ProblemBody}
 */
function problemOf(text, answer) {
  try {
    const found = JSON.parse(text);
    if (typeof found?.title === "string") return { ...found, status: answer.status };
  } catch {
    // A proxy's page: its beginning says enough.
  }
  return { type: "about:blank", title: `Status ${answer.status}`, status: answer.status, detail: text.slice(0, 200) };
}

/** @param {string} name */
export function segment(name) {
  return encodeURIComponent(name).replace(/%40/g, "@");
}
