// The page: the board's window as rows that move. Players' names enter as text only.

import { LiveBoard } from "./live.js";

const WINDOW = 10;
const HINT_MS = 5_000;
const STATUS = {
  connecting: "Connecting",
  live: "Live",
  stale: "Live, a little behind",
  reconnecting: "Reconnecting",
  stopped: "Disconnected",
};

const byId = (id) => document.getElementById(id);
const [rows, board, template] = ["rows", "board", "row"].map(byId);
const numbers = new Intl.NumberFormat();
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const players = new Map(); // userId → {userId, username, score, position, rank}
const shown = new Map(); // userId → its row and what the row says
let leader = null;
let painting = 0;

function take(data, event) {
  if (event === "leaderboard.update") {
    players.clear();
    data.entries.forEach((entry) => players.set(entry.userId, entry));
  } else if (event === "leaderboard.rank_change") {
    data.removed.forEach((userId) => players.delete(userId));
    data.changes.forEach((change) => players.set(change.userId, change));
  } else {
    return;
  }
  byId("total").textContent = numbers.format(data.total);
  byId("total-unit").textContent = data.total === 1 ? "player" : "players";
  showUpdated(data.updatedAt);
  // Many deltas may come within one frame of the screen.
  painting ||= requestAnimationFrame(paint);
}

function paint() {
  painting = 0;
  const first = shown.size === 0;
  const entries = [...players.values()].sort((a, b) => a.position - b.position).slice(0, WINDOW);
  const before = new Map();
  shown.forEach(({ row }, userId) => before.set(userId, row.getBoundingClientRect().top));

  const present = new Set(entries.map((entry) => entry.userId));
  shown.forEach(({ row }, userId) => {
    if (!present.has(userId)) {
      row.remove();
      shown.delete(userId);
    }
  });
  const best = Math.max(1, ...entries.map((entry) => entry.score));
  entries.forEach((entry, index) => {
    const view = shown.get(entry.userId) ?? create(entry);
    if (rows.children[index] !== view.row) rows.insertBefore(view.row, rows.children[index]);
    update(view, entry, best, first);
  });
  if (!calm.matches) shown.forEach(({ row }, userId) => glide(row, before.get(userId), first));
  byId("empty").hidden = entries.length > 0;
  board.removeAttribute("aria-busy");
  announce(entries[0]);
}

function create(entry) {
  const row = template.content.firstElementChild.cloneNode(true);
  const parts = [".rank span", ".avatar", ".name", ".hint", ".gain", ".number"];
  const [rank, avatar, name, hint, gain, number] = parts.map((part) => row.querySelector(part));
  const view = { row, rank, avatar, name, hint, gain, number, entry: null };
  row.style.setProperty("--hue", hue(entry.userId));
  shown.set(entry.userId, view);
  return view;
}

function update(view, entry, best, first) {
  const { row, entry: old } = view;
  view.entry = entry;
  row.dataset.rank = entry.rank;
  row.style.setProperty("--share", Math.max(0, (100 * entry.score) / best).toFixed(1));
  view.rank.textContent = entry.rank;
  view.name.textContent = entry.username;
  view.name.title = entry.username;
  view.avatar.textContent = entry.username.slice(0, 1);
  view.number.textContent = numbers.format(entry.score);
  if (first) return;
  if (!old) hint(view, "new");
  else if (entry.rank < old.rank) hint(view, "moved up", old.rank - entry.rank);
  else if (entry.rank > old.rank) hint(view, "");
  if (old && entry.score !== old.score) flash(view, entry.score - old.score);
}

// "▲ moved up 2", on narrow screens "▲ 2"; it fades on its own.
function hint(view, text, places) {
  clearTimeout(view.hinting);
  view.hint.replaceChildren();
  if (!text) return;
  const words = document.createElement(places ? "b" : "span");
  words.textContent = ` ${text} `;
  view.hint.append("▲", words, places ?? "");
  view.hinting = setTimeout(() => view.hint.replaceChildren(), HINT_MS);
}

function flash(view, gain) {
  clearTimeout(view.gaining);
  view.gain.textContent = (gain > 0 ? "+" : "−") + numbers.format(Math.abs(gain));
  view.gaining = setTimeout(() => (view.gain.textContent = ""), HINT_MS / 2);
  if (calm.matches) return;
  const { color } = getComputedStyle(view.hint);
  view.number.animate([{ color }, { color, offset: 0.4 }, {}], 1_200);
  view.row.animate([{ backgroundColor: `color-mix(in srgb, ${color} 16%, var(--card))` }, {}], 1_200);
}

// From where the row was last seen, even in the middle of a move, to where it belongs.
function glide(row, was, first) {
  const running = row.getAnimations().filter((animation) => animation.id === "glide");
  running.forEach((animation) => animation.cancel());
  const id = "glide";
  const easing = "cubic-bezier(0.2, 0.8, 0.2, 1)";
  if (was === undefined) {
    const from = first ? "translateY(0.5rem)" : "translateX(-1.5rem)";
    row.animate([{ opacity: 0, transform: from }, {}], { id, duration: 400, easing });
    return;
  }
  const moved = was - row.getBoundingClientRect().top;
  if (Math.abs(moved) < 1) return;
  // A rising row passes over a falling one.
  const zIndex = moved > 0 ? 2 : 1;
  const frames = [{ transform: `translateY(${moved}px)`, zIndex }, { transform: "none", zIndex }];
  row.animate(frames, { id, duration: 600, easing });
}

// Only a new leader is worth interrupting a screen reader.
function announce(top) {
  if (leader && top && top.userId !== leader) {
    byId("news").textContent = `${top.username} takes the lead with ${numbers.format(top.score)}.`;
  }
  leader = top?.userId ?? null;
}

function hue(text) {
  let sum = 7;
  for (const letter of text) sum = (sum * 31 + letter.codePointAt(0)) % 3_600;
  return sum / 10;
}

// Null for a board that never changed.
function showUpdated(at) {
  const updated = byId("updated");
  updated.textContent = at ? new Date(at).toLocaleTimeString() : "–";
  updated.dateTime = at ?? "";
}

function showStatus(state) {
  const status = byId("status");
  if (status.dataset.state === state) return;
  status.dataset.state = state;
  status.textContent = STATUS[state];
}

new LiveBoard({
  url: `${location.origin.replace("http", "ws")}/ws/leaderboard`,
  channel: "leaderboard:all_time",
  onData: take,
  onStatus: showStatus,
}).connect();
