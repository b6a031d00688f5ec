/**
 * @file The dialog of a command: what it does, the reason, what is sent and which key signs. Nothing is sent before.
 *
 * A statement that the operator signs is made by the page's process, shown byte for byte, and sent back to be signed.
 */

import { html, nothing, render } from "../vendor/lit-html-3.3.3.js";
import { post } from "../data/api.js";
import { fleet, problemText, refreshNow } from "../data/live.js";
import { visible, visibleLines } from "../data/text.js";
import { forgetPreviews, previewOf } from "./preview.js";
import { said } from "./text.js";

/**
 * @typedef {import("./commands.js").Command} Command
 * @typedef {import("./commands.js").Input} Input
 * @typedef {{kind: string, text: string, path: string}} Shown
 */

/** @type {HTMLDialogElement | null} */
let dialog = null;
/** @type {Command | null} */
let command = null;
/** @type {Input} */
let input = empty();
let problem = "";
let isSending = false;
/**
 * The statement that is to be signed, once it was asked for.
 * @type {Shown | null}
 */
let shown = null;
let hostsText = "";

/** @returns {Input} */
function empty() {
  return { reason: "", scope: "", hosts: [], minutes: 0 };
}

/** @param {Command} chosen */
export function openCommand(chosen) {
  command = chosen;
  hostsText = (chosen.hosts?.initial ?? []).join("\n");
  input = { reason: "", scope: chosen.scopes?.[0] ?? "", hosts: [...(chosen.hosts?.initial ?? [])], minutes: chosen.minutes?.initial ?? 0 };
  problem = "";
  shown = null;
  isSending = false;
  if (dialog === null) {
    dialog = document.createElement("dialog");
    dialog.addEventListener("close", () => (command = null));
    document.body.append(dialog);
  }
  draw();
  dialog.showModal();
  /** @type {HTMLElement | null} */ (dialog.querySelector("textarea[name=reason]"))?.focus();
}

function draw() {
  if (dialog === null || command === null) return;
  const { session } = fleet;
  const request = command.request(input);
  dialog.setAttribute("aria-labelledby", "dialog-title");
  render(
    html`<form @submit=${submitted} data-grave=${command.isGrave ? "yes" : "no"}>
      <h2 id="dialog-title">${command.title} <bdi>${visible(subjectOf(request.path, request.body))}</bdi></h2>
      <p>${said(command.about)}</p>
      ${command.scopes ? scopes(command.scopes) : nothing} ${command.hosts ? hosts(command.hosts.isOptional) : nothing}
      ${command.minutes ? minutes(command.minutes) : nothing}
      <label for="dialog-reason">Reason <small>in the log, with your name</small></label>
      <textarea id="dialog-reason" name="reason" rows="2" required maxlength="4096" .value=${input.reason} @input=${typed} ?readonly=${shown !== null}></textarea>
      ${previewOf(request, draw)}
      <details ?open=${shown !== null}>
        <summary>${shown ? "What you sign" : "What is sent"}</summary>
        ${
          shown
            ? html`<p class="quiet-text">Your signature covers these bytes, and nothing else is sent with it but them. POST <code>${visible(shown.path)}</code></p>
                <pre class="bytes" tabindex="0" aria-label="The statement">${visibleLines(shown.text)}</pre>`
            : html`<pre class="bytes" tabindex="0" aria-label="The request">POST ${visible(request.path)}
${visibleLines(JSON.stringify(request.body, null, 2))}</pre>`
        }
      </details>
      <p class="quiet-text">Signed on this machine by <b><bdi>${visible(session?.operator ?? "")}</bdi></b>, key <code>${session?.keyFingerprint.slice(0, 16)}…</code></p>
      ${problem ? html`<p class="problem" role="alert">${said(problem, 600)}</p>` : nothing}
      <footer>
        <button type="button" class="plain" @click=${() => dialog?.close()}>Leave it</button>
        <button type="submit" class=${command.isGrave ? "grave primary" : "primary"} ?disabled=${isSending}>${label()}</button>
      </footer>
    </form>`,
    dialog,
  );
}

function label() {
  if (isSending) return "Sending…";
  if (command?.isSigned && shown === null) return "Show what is signed";
  return command?.isSigned ? `Sign and ${command.title.toLowerCase()}` : (command?.title ?? "");
}

/**
 * What the command is about, from its request: the name in its path, or what its body names.
 * @param {string} path
 * @param {Record<string, unknown>} body
 */
function subjectOf(path, body) {
  for (const name of ["closure", "scope", "rolloutId"]) if (typeof body[name] === "string") return String(body[name]);
  return decodeURIComponent(path.split("/")[3] ?? "");
}

/** @param {readonly string[]} choices */
function scopes(choices) {
  return html`<fieldset>
    <legend>Of what</legend>
    ${choices.map(
      (scope) => html`<label><input type="radio" name="scope" .checked=${scope === input.scope} @change=${() => change({ scope })} /> ${scope.includes("@") ? "the rollout" : "the channel"} <bdi>${visible(scope)}</bdi></label>`,
    )}
  </fieldset>`;
}

/** @param {boolean} isOptional */
function hosts(isOptional) {
  return html`<label for="dialog-hosts">Hosts <small>one a line${isOptional ? "; none: all that it may be about" : ""}</small></label>
    <textarea id="dialog-hosts" rows="2" spellcheck="false" ?required=${!isOptional} .value=${hostsText} @input=${hostsTyped} ?readonly=${shown !== null}></textarea>`;
}

/** @param {{max: number}} limits */
function minutes({ max }) {
  return html`<label for="dialog-minutes">Expires after <small>minutes; hosts that hear of it later do not obey</small></label>
    <input id="dialog-minutes" type="number" min="1" max=${max} required .value=${String(input.minutes)} @input=${(/** @type {Event} */ event) => change({ minutes: Number(/** @type {HTMLInputElement} */ (event.target).value) })} ?readonly=${shown !== null} />`;
}

/** @param {Event} event */
function hostsTyped(event) {
  hostsText = /** @type {HTMLTextAreaElement} */ (event.target).value;
  change({ hosts: hostsText.split(/[\s,]+/).filter(Boolean) });
}

/** @param {Event} event */
function typed(event) {
  change({ reason: /** @type {HTMLTextAreaElement} */ (event.target).value });
}

/** @param {Partial<Input>} changed */
function change(changed) {
  input = { ...input, ...changed };
  problem = "";
  draw();
}

/** @param {Event} event */
async function submitted(event) {
  event.preventDefault();
  const sending = command;
  if (sending === null || isSending) return;
  if (!input.reason.trim()) {
    problem = "A reason is needed: it is in the log.";
    draw();
    return;
  }
  isSending = true;
  draw();
  try {
    const request = sending.request(input);
    if (sending.isSigned && shown === null) {
      shown = await post(request.path, request.body);
      isSending = false;
      draw();
      return;
    }
    const answer = shown ? await post("/local/sign", { kind: shown.kind, text: shown.text }) : await post(request.path, request.body);
    dialog?.close();
    forgetPreviews();
    tell(`${sending.title}: done. ${noteOf(answer)}`);
    await refreshNow();
  } catch (error) {
    isSending = false;
    shown = null;
    problem = problemText(error);
    draw();
  }
}

/** @param {unknown} answer */
function noteOf(answer) {
  const note = /** @type {any} */ (answer)?.note;
  return typeof note === "string" ? visible(note) : "";
}

/** @param {string} text */
function tell(text) {
  const place = document.getElementById("said");
  if (place) place.textContent = text;
}
