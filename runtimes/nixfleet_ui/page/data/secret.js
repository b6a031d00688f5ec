/**
 * @file The secret of the page's process: it comes in the fragment of the address and is sent as a header.
 * A tab keeps it for its own reloads. A tab that was opened from a link asks the others of this origin for it.
 */

const KEPT = "nixfleet-ui-token";
const TOKEN = /^#[A-Za-z0-9_-]{43}$/;
const ASKED_MILLIS = 400;
const channel = new BroadcastChannel("nixfleet-ui-secret");

/** @type {string | null} */
let token = null;

/**
 * Return the secret, `null` if no tab has it. It leaves the address bar, and so pictures of it.
 * @returns {Promise<string | null>}
 */
export async function secret() {
  if (TOKEN.test(location.hash)) {
    token = location.hash.slice(1);
    sessionStorage.setItem(KEPT, token);
    history.replaceState(null, "", `${location.pathname}#/now`);
  }
  token ??= sessionStorage.getItem(KEPT) ?? (await asked());
  if (token !== null) {
    sessionStorage.setItem(KEPT, token);
    channel.onmessage = (event) => {
      if (event.data === "who has it?") channel.postMessage({ token });
    };
  }
  return token;
}

/** @returns {Promise<string | null>} */
function asked() {
  return new Promise((resolve) => {
    const ending = setTimeout(() => resolve(null), ASKED_MILLIS);
    channel.onmessage = (event) => {
      if (typeof event.data?.token !== "string") return;
      clearTimeout(ending);
      resolve(event.data.token);
    };
    channel.postMessage("who has it?");
  });
}
