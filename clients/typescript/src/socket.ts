/** A WebSocket for pushes that connects again by itself. */
import type { TokenSource } from "./api.js";
import type { Push } from "./types.js";

/** The part of the browser's `WebSocket` that is used here. */
export interface SocketLike {
  readonly readyState: number;
  send(data: string): void;
  close(code?: number): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  onerror: ((event: never) => void) | null;
}

/** Makes a WebSocket: the browser's, or for Node 20, which has none, that of the package `ws`. */
export type SocketConstructor = new (url: string, protocols: string[]) => SocketLike;

/** The options of a {@link PushSocket}, and the events that it tells. */
export interface SocketOptions {
  /** Such as `ws://127.0.0.1:8080/ws`. */
  url: string;
  token: TokenSource;
  WebSocket?: SocketConstructor;
  onPush(push: Push): void;
  /** The socket is open: pushes may have been missed before. */
  onOpen(): void;
  onClose(): void;
}

/** The time between two pings, ms. A server closes a connection that is silent for 10 minutes. */
const PING_EVERY_MS = 20_000;
/** A connection without an answer to a ping for this long is dead, ms. */
const PONG_WITHIN_MS = 8_000;
/** The longest that a handshake takes, ms. */
const OPEN_WITHIN_MS = 10_000;
/** The pause before the first new try, ms; each further one is twice as long, up to the longest. */
const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 10_000;
/** Close code: the token has ended. */
const TOKEN_ENDED = 4401;

/** Keeps one WebSocket open until {@link close}. */
export class PushSocket {
  private socket: SocketLike | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pinging: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  private renew = false;
  private ended = false;

  constructor(private readonly options: SocketOptions) {}

  /** Connects, and connects again whenever the connection ends. */
  open(): void {
    if (!this.ended && !this.socket) void this.connect();
  }

  /** Ends for good. */
  close(): void {
    this.ended = true;
    clearTimeout(this.timer);
    this.drop(1000);
  }

  /** Tries again now, for example because the browser says that it is online. */
  hurry(): void {
    if (this.ended || this.socket) return;
    this.failures = 0;
    clearTimeout(this.timer);
    void this.connect();
  }

  /** Sends an object if the socket is open. */
  say(data: object): void {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(data));
  }

  private async connect(): Promise<void> {
    let token: string;
    try {
      token = await this.options.token({ renew: this.renew });
    } catch {
      this.retry();
      return;
    }
    if (this.ended || this.socket) return;
    const Socket = this.options.WebSocket ?? (globalThis as { WebSocket?: SocketConstructor }).WebSocket;
    if (!Socket) throw new Error("there is no WebSocket here; pass one as an option, on Node 20 that of the package ws");
    const socket = new Socket(this.options.url, ["hongyan.v1", `bearer.${token}`]);
    this.socket = socket;
    let opened = false;
    const ended = (code: number): void => {
      if (this.socket !== socket) return;
      this.socket = null;
      clearTimeout(this.pinging);
      this.renew = code === TOKEN_ENDED || !opened;
      if (opened) this.options.onClose();
      if (!this.ended) this.retry();
    };
    this.pinging = setTimeout(() => {
      socket.close();
      ended(1006);
    }, OPEN_WITHIN_MS);
    socket.onopen = () => {
      if (this.socket !== socket) return;
      opened = true;
      this.renew = false;
      this.failures = 0;
      this.pingLater(socket, ended);
      this.options.onOpen();
    };
    socket.onmessage = (event) => {
      if (this.socket !== socket) return;
      // Any word of the server shows that the connection lives.
      this.pingLater(socket, ended);
      const push = parse(event.data);
      if (push) this.options.onPush(push);
    };
    socket.onerror = () => undefined;
    socket.onclose = (event) => ended(event.code);
  }

  private pingLater(socket: SocketLike, dead: (code: number) => void): void {
    clearTimeout(this.pinging);
    this.pinging = setTimeout(() => {
      this.say({ action: "ping" });
      this.pinging = setTimeout(() => {
        // The other end may be gone without a word, so nobody waits for its close.
        socket.close();
        dead(1006);
      }, PONG_WITHIN_MS);
    }, PING_EVERY_MS);
  }

  private retry(): void {
    if (this.ended) return;
    const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.failures++);
    // Random, so that the clients of a server that restarts do not come back all at once.
    this.timer = setTimeout(() => void this.connect(), longest * (0.5 + Math.random() / 2));
  }

  private drop(code: number): void {
    const socket = this.socket;
    this.socket = null;
    clearTimeout(this.pinging);
    socket?.close(code);
  }
}

function parse(data: unknown): Push | null {
  try {
    const push = JSON.parse(String(data)) as Push;
    return typeof push?.type === "string" ? push : null;
  } catch {
    return null;
  }
}
