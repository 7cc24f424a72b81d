// One board over the live channel: connects, recovers what was missed, comes back after a loss.
//
// Deltas are applied only in an unbroken row of offsets. After a gap the channel is requested again
// from where we stand, and the answer is either all that was missed or the whole board.

const PROTOCOL = "scoreboard.v1.json";
const STOP_FROM = 4500; // close codes from here on mean: do not come back
const GOOD_MS = 10_000; // so long a connection must hold before pauses are short again

export class LiveBoard {
  // `onData(data, event)`: a whole board ("leaderboard.update") or changes of it.
  // `onStatus(state)`: connecting, live, stale, reconnecting or stopped.
  constructor({ url, channel, onData, onStatus }) {
    Object.assign(this, { url, channel, onData, onStatus });
    this.position = null; // {epoch, offset}
    this.tries = 0;
    this.lastId = 0;
    this.heartbeat = { intervalMs: 25_000, timeoutMs: 35_000 };
    this.retry = { baseMs: 1_000, maxMs: 30_000, spreadMs: 2_000 };
    addEventListener("online", () => this.waiting && this.connect());
  }

  connect() {
    clearTimeout(this.waiting);
    this.waiting = this.leaving = this.repairing = null;
    const socket = new WebSocket(this.url, [PROTOCOL]);
    this.socket = socket;
    this.expectFrame();
    socket.onopen = () => {
      const client = { name: "board-page", version: "1" };
      this.request("connect", { client, subs: [this.wish()] });
    };
    socket.onmessage = (message) => {
      this.expectFrame();
      this.receive(JSON.parse(message.data));
    };
    socket.onclose = (closed) => this.lost(socket, closed.code);
  }

  // A connection that brings nothing in time is dead, even if the network reports no error.
  expectFrame() {
    clearTimeout(this.silence);
    const { socket } = this;
    this.silence = setTimeout(() => {
      socket.close();
      this.lost(socket, 1006);
    }, this.heartbeat.timeoutMs);
  }

  lost(socket, code) {
    if (socket !== this.socket) return;
    this.socket = null;
    clearTimeout(this.silence);
    clearTimeout(this.steady);
    clearTimeout(this.repairing);
    if (code >= STOP_FROM) {
      this.onStatus("stopped");
      return;
    }
    this.onStatus("reconnecting");
    const cap = Math.min(this.retry.maxMs, this.retry.baseMs * 2 ** this.tries);
    const [min, max] = this.leaving ?? [cap / 2, cap];
    this.tries += 1;
    this.waiting = setTimeout(() => this.connect(), min + Math.random() * (max - min));
  }

  receive(frame) {
    if (frame.channel && frame.channel !== this.channel) return;
    switch (frame.type) {
      case "welcome":
        this.heartbeat = frame.heartbeat;
        this.retry = frame.retry;
        this.steady = setTimeout(() => (this.tries = 0), GOOD_MS);
        frame.subs.forEach((sub) => this.receive(sub));
        break;
      case "subscribed":
        this.subscribed(frame);
        break;
      case "snapshot":
        this.replace(frame, frame.data);
        break;
      case "delta":
        this.follow(frame);
        break;
      case "unsubscribed":
      case "error":
        this.repair(frame.retryAfterMs);
        break;
      case "ping":
        this.send({ type: "pong", t: frame.t });
        break;
      case "shutdown":
        this.leaving = frame.reconnectMs;
        break;
    }
  }

  subscribed(frame) {
    if (frame.recovered) {
      this.onStatus("live");
      frame.replay.forEach((missed) => this.receive(missed));
    } else {
      this.replace(frame, frame.snapshot);
    }
  }

  replace({ epoch, offset, stale }, data) {
    this.position = { epoch, offset };
    this.onStatus(stale ? "stale" : "live");
    this.onData(data, "leaderboard.update");
  }

  follow({ epoch, offset, event, data, ts }) {
    const known = this.position;
    if (known?.epoch === epoch && offset <= known.offset) return;
    if (known?.epoch !== epoch || offset !== known.offset + 1) {
      this.repair();
      return;
    }
    known.offset = offset;
    this.onData({ updatedAt: ts, ...data }, event);
  }

  // After a random pause, so that not every page does so at the same moment.
  repair(afterMs = 0) {
    if (this.repairing) return;
    const pauseMs = afterMs + Math.random() * this.retry.spreadMs;
    this.repairing = setTimeout(() => {
      this.repairing = null;
      this.request("subscribe", this.wish());
    }, pauseMs);
  }

  wish() {
    return { channel: this.channel, ...(this.position && { since: this.position }) };
  }

  request(type, fields) {
    this.lastId += 1;
    this.send({ type, id: this.lastId, ...fields });
  }

  send(frame) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }
}
