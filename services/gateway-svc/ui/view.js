// Rows on the screen. Text of others is only ever set as text, never as HTML.

import { contentText } from "./log.js";

export function make(tag, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

const badgeOf = {
  idle: "good", running: "busy", starting: "busy", waiting: "warn", suspended: "", failed: "bad", destroyed: "",
  completed: "good", pending: "", "in progress": "busy", live: "good", connecting: "busy", offline: "bad", closed: "",
};

export function setBadge(node, word) {
  node.textContent = word;
  node.className = `badge ${badgeOf[word] ?? ""}`;
  node.hidden = !word;
}

export const isReject = (option) => (option.kind || "").startsWith("PERMISSION_OPTION_KIND_REJECT");

export function optionButtons(row, answer) {
  const list = make("div", "options");
  for (const option of row.options) {
    const button = make("button", isReject(option) ? "reject" : "", option.name || option.optionId);
    button.type = "button";
    button.dataset.option = option.optionId;
    button.addEventListener("click", () => answer(row, option, list));
    list.append(button);
  }
  return list;
}

function diff(block) {
  const pre = make("pre");
  for (const [sign, text] of [["-", block.oldText], ["+", block.newText]]) {
    if (text === undefined || text === "") continue;
    for (const line of text.replace(/\n$/, "").split("\n"))
      pre.append(make("span", sign === "+" ? "add" : "del", `${sign} ${line}\n`));
  }
  return pre;
}

function output(piece) {
  if (piece.diff) return diff(piece.diff);
  return make("pre", "", piece.content ? contentText(piece.content) : `[terminal ${piece.terminalId}]`);
}

const draw = {
  user(node, row) {
    node.classList.toggle("waiting", row.waiting);
    node.replaceChildren(make("div", "text", row.text));
    const by = [row.author, row.waiting ? "queued" : ""].filter(Boolean).join(" · ");
    if (by) node.append(make("div", "by", by));
  },

  // Grows by what is new: a long answer is not written again for each piece.
  agent(node, row) {
    const text = node.firstChild || node.appendChild(make("div", "text"));
    const shown = node.shown || 0;
    if (row.text.length > shown) text.append(row.text.slice(shown));
    node.shown = row.text.length;
  },

  thought(node, row) {
    draw.agent(node, row);
  },

  tool(node, row) {
    const line = make("div", "line");
    const status = make("span");
    setBadge(status, row.status);
    line.append(make("span", "title", row.title || "tool"), make("span", "kind", row.tool), status);
    node.replaceChildren(line);
    if (row.where.length) node.append(make("div", "where", row.where.join("  ")));
    for (const piece of row.output) node.append(output(piece));
  },

  plan(node, row) {
    const list = make("ol");
    for (const entry of row.entries) list.append(make("li", entry.status || "", entry.content || ""));
    node.replaceChildren(list);
  },

  permission(node, row, answer) {
    const line = make("div", "line");
    line.append(make("span", "title", row.title));
    node.classList.toggle("done", row.answer !== null);
    if (row.answer) {
      const { outcome, option, author } = row.answer;
      const words = outcome === "selected" ? `${option}${author ? ` · ${author}` : ""}` : outcome;
      line.append(make("span", "badge", words));
    }
    node.replaceChildren(line);
    if (!row.answer) node.append(optionButtons(row, answer));
  },

  end(node, row) {
    node.classList.toggle("bad", row.bad);
    node.textContent = row.text;
  },

  note(node, row) {
    node.classList.toggle("bad", row.bad);
    node.textContent = row.text;
  },

  log(node, row) {
    node.textContent = row.text;
  },
};

// Draws rows into a list: what comes after a pause at once, in a burst once per frame.
export class View {
  #nodes = new Map(); // row -> node
  #dirty = new Set();
  #frame = 0;
  #observer;

  // drawn(n): n rows were added; question(row, inSight): a permission came into or went out of sight.
  constructor(list, { answer, drawn, question }) {
    this.list = list;
    this.answer = answer;
    this.drawn = drawn;
    this.#observer = new IntersectionObserver((entries) => {
      for (const entry of entries) question(entry.target.row, entry.isIntersecting);
    }, { root: list.parentElement });
  }

  clear() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#nodes.clear();
    this.#dirty.clear();
    this.#observer.disconnect();
    this.list.replaceChildren();
  }

  change(row) {
    this.#dirty.add(row);
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#dirty.size) this.#draw();
    });
    this.#draw();
  }

  #draw() {
    let added = 0;
    for (const row of this.#dirty) {
      let node = this.#nodes.get(row);
      if (!node) {
        node = make("div", `row ${row.kind}`);
        node.dataset.seq = row.key;
        this.#nodes.set(row, node);
        this.list.append(node);
        added++;
        if (row.kind === "permission") {
          node.row = row;
          this.#observer.observe(node);
        }
      }
      draw[row.kind](node, row, this.answer);
    }
    this.#dirty.clear();
    this.drawn(added);
  }
}
