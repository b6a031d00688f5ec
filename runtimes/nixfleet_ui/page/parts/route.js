/** @file Which screen the address names: `#/host/web-01`. Names are percent-encoded, as in the API. */

export const routes = /** @type {const} */ ([
  { name: "now", title: "Now" },
  { name: "decide", title: "Decide" },
  { name: "host", title: "Host" },
  { name: "next", title: "Next" },
  { name: "story", title: "Story" },
  { name: "releases", title: "Releases" },
]);

/** @returns {{screen: string, argument: string}} */
export function route() {
  const [, screen = "", argument = ""] = location.hash.split("/");
  const known = routes.some((it) => it.name === screen);
  return { screen: known ? screen : "now", argument: decoded(argument) };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** @param {string} hostname */
export function hostLink(hostname) {
  return `#/host/${encodeURIComponent(hostname)}`;
}

/** @param {Record<string, string>} filters */
export function storyLink(filters) {
  return `#/story/${encodeURIComponent(new URLSearchParams(filters).toString())}`;
}
