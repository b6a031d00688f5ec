/**
 * @file The map: a cell for each host, by wave, in the order of the manifest. A host keeps its place whatever happens.
 *
 * Only cells that changed are drawn again. Above 40,000 hosts a tile stands for several, and shows what shares are in
 * which state; a failure in it is marked in any case. Beside the map there is a table, for those who cannot see it.
 */

import { STATES } from "../data/hosts.js";
import { isFailure, palette } from "../data/states.js";

/** @typedef {import("../data/hosts.js").Hosts} Hosts */

const CELLS_MAX = 40_000;
const HEIGHT_WANTED = 380;
const LABEL_HEIGHT = 20;
const WAVE_GAP = 6;
const SIZES = [24, 20, 16, 14, 12, 10, 9, 8, 7, 6, 5, 4, 3];
const MARKED_MIN = 8;

/** @typedef {{wave: number, first: number, count: number, top: number}} Band */

class FleetMap extends HTMLElement {
  /** @type {Hosts | null} */
  #hosts = null;
  /** The hosts in the order of the cells: a place in the columns for each. */
  #order = new Int32Array(0);
  /** @type {Band[]} */
  #bands = [];
  #size = 10;
  #columns = 1;
  #perTile = 1;
  /** What each cell shows now. */
  #drawn = new Uint8Array(0);
  /** @type {Map<number, HTMLCanvasElement>} */
  #sprites = new Map();
  #selected = -1;
  #canvas = document.createElement("canvas");
  #status = document.createElement("p");
  #isScheduled = false;
  #width = 0;

  connectedCallback() {
    if (this.#canvas.isConnected) return;
    this.#canvas.tabIndex = 0;
    this.#canvas.setAttribute("role", "application");
    this.#canvas.setAttribute("aria-roledescription", "map of hosts");
    this.#status.className = "map-status";
    this.#status.id = "map-status";
    this.#status.setAttribute("role", "status");
    this.#canvas.setAttribute("aria-describedby", "map-status");
    this.append(this.#canvas, this.#status);
    this.#canvas.addEventListener("keydown", (event) => this.#key(event));
    this.#canvas.addEventListener("click", (event) => this.#select(this.#at(event), true));
    this.#canvas.addEventListener("mousemove", (event) => this.#say(this.#at(event)));
    this.#canvas.addEventListener("mouseleave", () => this.#say(this.#selected));
    this.#canvas.addEventListener("dblclick", () => this.#open());
    new ResizeObserver(() => this.#resized()).observe(this);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => this.#restart());
    this.#say(-1);
  }

  /** @param {Hosts | null | undefined} hosts */
  set hosts(hosts) {
    if (!hosts || hosts === this.#hosts) return;
    const isSameFleet = this.#hosts !== null && this.#hosts.names === hosts.names && this.#hosts.waves === hosts.waves;
    this.#hosts = hosts;
    if (isSameFleet) this.#schedule();
    else this.#restart();
  }

  /**
   * Move to the next host that failed, and show it.
   * @param {number} [step]
   */
  nextFailure(step = 1) {
    const hosts = this.#hosts;
    if (!hosts) return;
    const count = this.#order.length;
    for (let tried = 1; tried <= count; tried++) {
      const at = (((this.#selected + step * tried) % count) + count) % count;
      if (isFailure(STATES[hosts.states[this.#order[at]]])) {
        this.#canvas.focus({ preventScroll: false });
        this.#select(at, true);
        return;
      }
    }
    this.#status.textContent = "No host has failed.";
  }

  #resized() {
    if (Math.abs(this.clientWidth - this.#width) >= 1) this.#restart();
  }

  #restart() {
    const hosts = this.#hosts;
    this.#width = this.clientWidth;
    if (!hosts || this.#width === 0) return;
    this.#layOut(hosts);
    this.#sprites.clear();
    this.#drawn = new Uint8Array(0);
    this.#canvas.setAttribute("aria-label", `${hosts.names.length} hosts by wave. Arrows move, F goes to the next failure, Enter opens a host.`);
    this.#schedule();
  }

  /** @param {Hosts} hosts */
  #layOut(hosts) {
    const count = hosts.names.length;
    this.#order = Int32Array.from({ length: count }, (_, index) => index);
    this.#order.sort((one, other) => rank(hosts.waves[one]) - rank(hosts.waves[other]) || one - other);
    this.#perTile = count > CELLS_MAX ? Math.ceil(count / CELLS_MAX) : 1;
    /** @type {Band[]} */
    const bands = [];
    this.#order.forEach((host, at) => {
      const last = bands.at(-1);
      if (last && last.wave === hosts.waves[host]) last.count++;
      else bands.push({ wave: hosts.waves[host], first: at, count: 1, top: 0 });
    });
    this.#size = SIZES.find((size) => this.#heightOf(bands, size) <= HEIGHT_WANTED) ?? /** @type {number} */ (SIZES.at(-1));
    this.#columns = Math.max(1, Math.floor(this.#width / this.#size));
    let top = 0;
    for (const band of bands) {
      band.top = top + LABEL_HEIGHT;
      top = band.top + Math.ceil(Math.ceil(band.count / this.#perTile) / this.#columns) * this.#size + WAVE_GAP;
    }
    this.#bands = bands;
    const ratio = devicePixelRatio;
    this.#canvas.width = Math.round(this.#width * ratio);
    this.#canvas.height = Math.round(top * ratio);
    this.#canvas.style.setProperty("height", `${top}px`);
  }

  /**
   * @param {Band[]} bands
   * @param {number} size
   */
  #heightOf(bands, size) {
    const columns = Math.max(1, Math.floor(this.#width / size));
    return bands.reduce((sum, band) => sum + LABEL_HEIGHT + WAVE_GAP + Math.ceil(Math.ceil(band.count / this.#perTile) / columns) * size, 0);
  }

  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      this.#draw();
    });
  }

  #draw() {
    const hosts = this.#hosts;
    const context = this.#canvas.getContext("2d");
    if (!hosts || !context) return;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    const isFresh = this.#drawn.length === 0;
    if (isFresh) {
      context.clearRect(0, 0, this.#width, this.#canvas.height);
      this.#drawn = new Uint8Array(this.#order.length).fill(255);
      this.#label(context);
    }
    if (this.#perTile > 1) this.#drawTiles(context, hosts);
    else this.#drawCells(context, hosts);
    this.#say(this.#selected);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Hosts} hosts
   */
  #drawCells(context, hosts) {
    for (const band of this.#bands) {
      for (let index = 0; index < band.count; index++) {
        const at = band.first + index;
        const state = hosts.states[this.#order[at]];
        const shown = at === this.#selected ? state + 128 : state;
        if (this.#drawn[at] === shown) continue;
        this.#drawn[at] = shown;
        const x = (index % this.#columns) * this.#size;
        const y = band.top + Math.floor(index / this.#columns) * this.#size;
        context.clearRect(x, y, this.#size, this.#size);
        context.drawImage(this.#sprite(state, at === this.#selected), x, y, this.#size, this.#size);
      }
    }
  }

  /**
   * Tiles above the number of cells that can be seen: a column of shares for each.
   * @param {CanvasRenderingContext2D} context
   * @param {Hosts} hosts
   */
  #drawTiles(context, hosts) {
    const colours = palette();
    const inner = this.#size - 1;
    for (const band of this.#bands) {
      for (let index = 0, tile = 0; index < band.count; index += this.#perTile, tile++) {
        const end = Math.min(index + this.#perTile, band.count);
        const counts = new Array(STATES.length).fill(0);
        for (let at = index; at < end; at++) counts[hosts.states[this.#order[band.first + at]]]++;
        const x = (tile % this.#columns) * this.#size;
        let y = band.top + Math.floor(tile / this.#columns) * this.#size;
        const hasFailed = counts.some((count, state) => count > 0 && isFailure(STATES[state]));
        context.clearRect(x, y, this.#size, this.#size);
        if (hasFailed) {
          context.fillStyle = colours.Failed.fill;
          context.fillRect(x, y, inner, inner);
          continue;
        }
        counts.forEach((count, state) => {
          if (!count) return;
          const height = (inner * count) / (end - index);
          context.fillStyle = colours[STATES[state]].fill;
          context.fillRect(x, y, inner, height);
          y += height;
        });
      }
    }
  }

  /** @param {CanvasRenderingContext2D} context */
  #label(context) {
    const style = getComputedStyle(this);
    context.font = `600 12px ${style.fontFamily}`;
    context.fillStyle = style.color;
    context.textBaseline = "alphabetic";
    for (const band of this.#bands) {
      const name = band.wave < 0 ? "in no wave" : `Wave ${band.wave}`;
      const text = `${name}  ·  ${band.count.toLocaleString("en-US")} ${band.count === 1 ? "host" : "hosts"}`;
      context.fillText(text, 0, band.top - 6);
    }
  }

  /**
   * A cell drawn once for each state, with its mark where there is room for one.
   * @param {number} state
   * @param {boolean} isSelected
   */
  #sprite(state, isSelected) {
    const key = isSelected ? state + 128 : state;
    const known = this.#sprites.get(key);
    if (known) return known;
    const size = this.#size;
    const gap = size >= 12 ? 2 : 1;
    const inner = size - gap;
    const sprite = document.createElement("canvas");
    sprite.width = sprite.height = Math.round(size * devicePixelRatio);
    const context = /** @type {CanvasRenderingContext2D} */ (sprite.getContext("2d"));
    context.scale(sprite.width / size, sprite.width / size);
    const { fill, mark } = palette()[STATES[state]];
    context.fillStyle = fill;
    context.beginPath();
    if (size >= 12) /** @type {any} */ (context).roundRect(0, 0, inner, inner, 2);
    else context.rect(0, 0, inner, inner);
    context.fill();
    if (size >= MARKED_MIN) drawMark(context, STATES[state], inner, mark);
    else if (isFailure(STATES[state])) drawMark(context, STATES[state], inner, mark);
    if (isSelected) {
      context.strokeStyle = getComputedStyle(this).color;
      context.lineWidth = size >= 8 ? 2.5 : 1.5;
      context.strokeRect(context.lineWidth / 2, context.lineWidth / 2, inner - context.lineWidth, inner - context.lineWidth);
    }
    this.#sprites.set(key, sprite);
    return sprite;
  }

  /** @param {MouseEvent} event */
  #at(event) {
    const x = Math.floor(event.offsetX / this.#size);
    for (const band of this.#bands) {
      const row = Math.floor((event.offsetY - band.top) / this.#size);
      const index = (row * this.#columns + x) * this.#perTile;
      if (row >= 0 && x < this.#columns && index < band.count && event.offsetY >= band.top) {
        const rows = Math.ceil(Math.ceil(band.count / this.#perTile) / this.#columns);
        if (row < rows) return band.first + index;
      }
    }
    return -1;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.#order.length - 1;
    const row = this.#columns * this.#perTile;
    /** @type {Record<string, number>} */
    const moves = {
      ArrowRight: this.#selected + 1,
      ArrowLeft: this.#selected - 1,
      ArrowDown: this.#below(row),
      ArrowUp: this.#below(-row),
      Home: 0,
      End: last,
    };
    if (event.key in moves) {
      this.#select(Math.max(0, Math.min(last, moves[event.key])), true);
    } else if (event.key === "Enter") {
      this.#open();
    } else if (event.key === "Escape") {
      this.#select(-1, false);
    } else {
      return;
    }
    event.preventDefault();
  }

  /**
   * The cell a row below or above, also across the edge of a wave.
   * @param {number} step
   */
  #below(step) {
    if (this.#selected < 0) return 0;
    const band = this.#bandOf(this.#selected);
    const inside = this.#selected - band.first + step;
    if (inside >= 0 && inside < band.count) return band.first + inside;
    const at = this.#bands.indexOf(band) + Math.sign(step);
    const next = this.#bands[at];
    if (!next) return this.#selected;
    const column = (this.#selected - band.first) % Math.abs(step);
    if (step > 0) return next.first + Math.min(column, next.count - 1);
    const lastRow = Math.floor((next.count - 1) / -step) * -step;
    return next.first + Math.min(lastRow + column, next.count - 1);
  }

  /** @param {number} at */
  #bandOf(at) {
    return /** @type {Band} */ (this.#bands.filter((band) => band.first <= at).at(-1));
  }

  /**
   * @param {number} at
   * @param {boolean} isTold
   */
  #select(at, isTold) {
    this.#selected = at;
    this.#schedule();
    this.#say(at);
    if (isTold && at >= 0) this.dispatchEvent(new CustomEvent("selected", { detail: this.#nameAt(at), bubbles: true }));
  }

  #open() {
    if (this.#selected < 0) return;
    this.dispatchEvent(new CustomEvent("opened", { detail: this.#nameAt(this.#selected), bubbles: true }));
  }

  /** @param {number} at */
  #nameAt(at) {
    return this.#hosts?.names[this.#order[at]] ?? "";
  }

  /** @param {number} at */
  #say(at) {
    const hosts = this.#hosts;
    if (!hosts || at < 0 || at >= this.#order.length) {
      this.#status.textContent = "Point at a host, or move with the arrows.";
      return;
    }
    const host = this.#order[at];
    const wave = hosts.waves[host] < 0 ? "in no wave" : `wave ${hosts.waves[host]}`;
    this.#status.textContent = `${hosts.names[host]} · ${wave} · ${STATES[hosts.states[host]]}`;
  }
}

/**
 * Hosts in no wave come last.
 * @param {number} wave
 */
function rank(wave) {
  return wave < 0 ? Number.MAX_SAFE_INTEGER : wave;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {import("../data/states.js").State} state
 * @param {number} size
 * @param {string} colour
 */
function drawMark(context, state, size, colour) {
  const low = size * 0.26, high = size * 0.74, middle = size / 2;
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = Math.max(1, size / 8);
  context.lineCap = "round";
  context.beginPath();
  switch (state) {
    case "Failed":
      context.moveTo(low, low);
      context.lineTo(high, high);
      context.moveTo(high, low);
      context.lineTo(low, high);
      context.stroke();
      break;
    case "Reverted":
      context.moveTo(low, high);
      context.lineTo(high, low);
      context.stroke();
      break;
    case "Activating":
      context.moveTo(low, low);
      context.lineTo(high, middle);
      context.lineTo(low, high);
      context.fill();
      break;
    case "Soaking":
      context.arc(middle, middle, size * 0.2, 0, 2 * Math.PI);
      context.fill();
      break;
    case "Deferred":
      context.moveTo(size * 0.38, low);
      context.lineTo(size * 0.38, high);
      context.moveTo(size * 0.62, low);
      context.lineTo(size * 0.62, high);
      context.stroke();
      break;
    case "Converged":
    case "Pending":
      break;
  }
}

customElements.define("fleet-map", FleetMap);
