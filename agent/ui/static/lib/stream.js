// Follows one session's events over a WebSocket, for as long as it is wanted: after a break it comes back and asks for
// what came after the last number it has, so nothing is shown twice and nothing is missed.
import { get, signIn, socketUrl, part } from "./api.js";

const WAITS = [250, 500, 1000, 2000, 4000];

export class Stream {
  /** onevents(batch), onlive(), onstatus("connecting" | "live" | "broken" | "gone") */
  constructor(session, { onevents, onlive, onstatus }) {
    Object.assign(this, { session, onevents, onlive, onstatus });
    this.seen = 0;
    this.tries = 0;
    this.wake = () => this.timer && !document.hidden && this.open();
    addEventListener("online", this.wake);
    document.addEventListener("visibilitychange", this.wake);
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.timer = null;
    this.socket?.close();
    const socket = new WebSocket(socketUrl(`sessions/${part(this.session)}/events`, { after: this.seen }));
    this.socket = socket;
    this.onstatus("connecting");
    socket.onopen = () => (this.opened = true);
    socket.onmessage = (message) => socket === this.socket && this.take(JSON.parse(message.data));
    socket.onclose = (closed) => socket === this.socket && this.closed(closed.code);
  }

  take(frame) {
    if (frame.events) {
      const fresh = frame.events.filter((event) => event.seq > this.seen);
      if (fresh.length) {
        this.seen = fresh[fresh.length - 1].seq;
        this.onevents(fresh);
      }
    }
    if (frame.live) {
      this.tries = 0;
      this.onstatus("live");
      this.onlive();
    }
  }

  closed(code) {
    this.socket = null;
    if (code === 4404) return this.end("gone");
    if (code === 1008) {
      this.end("gone");
      return signIn();
    }
    // a refusal before the handshake looks like any break: ask whether we are still signed in
    if (!this.opened && this.tries === 1) get("me").catch(() => {});
    this.opened = false;
    this.onstatus("broken");
    const wait = WAITS[Math.min(this.tries, WAITS.length - 1)];
    this.tries += 1;
    this.timer = setTimeout(() => this.open(), wait * (0.8 + Math.random() * 0.4));
  }

  end(status) {
    this.close();
    this.onstatus(status);
  }

  close() {
    clearTimeout(this.timer);
    this.timer = null;
    removeEventListener("online", this.wake);
    document.removeEventListener("visibilitychange", this.wake);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }
}
