/** A WebSocket for pushes that connects again by itself. */
import { pauseAfter } from "./api.js";
import type { TokenSource } from "./api.js";
import type { Push } from "./types.js";

/** The part of the browser's `WebSocket` that is used here. */
export interface SocketLike {
  readonly readyState: number;
  send(data: string): void;
  close(code?: number): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
}

/** Makes a WebSocket: that of the browser and of Node 22, or for Node 20, which has none, that of the package `ws`. */
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
  /** The socket has ended, with its close code; 1006 if the other end just went away. */
  onClose(code: number): void;
}

/** The time between two pings, ms. A server closes a connection that is silent for 10 minutes. */
const PING_EVERY_MS = 20_000;
/** A connection without an answer to a ping for this long is dead, ms. */
const PONG_WITHIN_MS = 8_000;
/** The longest that a handshake takes, ms. */
const OPEN_WITHIN_MS = 10_000;
/** Only a connection that lived for so long, ms, makes the next pause short again. */
const STEADY_AFTER_MS = 5_000;
/** A new token is fetched so long before the present one ends, ms. */
const BEFORE_END_MS = 20_000;
/** The longest time-out that browsers keep, ms. */
const LONGEST_TIMER_MS = 2_147_483_647;
/** Close code: the client sent too much. */
const TOO_MUCH = 1008;
/** Close code: the token has ended. */
const TOKEN_ENDED = 4401;
/** Close code: the user opened too many connections, and this was the oldest. */
const GAVE_WAY = 4409;

/** Keeps one WebSocket open until {@link close}. */
export class PushSocket {
  /** True after the socket gave way to newer ones of the user (4409). It connects again only by {@link hurry}. */
  gaveWay = false;

  private socket: SocketLike | null = null;
  private connecting = false;
  private retrying: ReturnType<typeof setTimeout> | undefined;
  private watching: ReturnType<typeof setTimeout> | undefined;
  private ending: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  private renew = false;
  private ended = false;

  constructor(private readonly options: SocketOptions) {}

  /** Connects, and connects again whenever the connection ends. */
  open(): void {
    void this.connect();
  }

  /** Ends for good. */
  close(): void {
    this.ended = true;
    clearTimeout(this.retrying);
    clearTimeout(this.watching);
    clearTimeout(this.ending);
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000);
  }

  /** Tries again now, for example because the browser is online again or the user came back to the page. */
  hurry(): void {
    this.gaveWay = false;
    this.failures = 0;
    void this.connect();
  }

  /** Sends an object if the socket is open. */
  say(data: object): void {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(data));
  }

  private async connect(): Promise<void> {
    if (this.ended || this.socket || this.connecting) return;
    clearTimeout(this.retrying);
    this.connecting = true;
    let socket: SocketLike;
    let token: string;
    try {
      token = await this.options.token({ renew: this.renew });
      if (this.ended) return;
      const Socket = this.options.WebSocket ?? (globalThis as { WebSocket?: SocketConstructor }).WebSocket;
      if (!Socket) throw new Error("there is no WebSocket here; pass one as an option, on Node 20 that of the package ws");
      socket = new Socket(this.options.url, ["hongyan.v1", `bearer.${token}`]);
    } catch {
      // The token's source is away for now.
      this.retry();
      return;
    } finally {
      this.connecting = false;
    }
    this.follow(socket, token);
  }

  private follow(socket: SocketLike, token: string): void {
    this.socket = socket;
    let openedAt: number | null = null;
    const ended = (code: number): void => {
      if (this.socket !== socket) return;
      this.socket = null;
      clearTimeout(this.watching);
      clearTimeout(this.ending);
      // A browser does not say why a handshake failed; perhaps the token was refused.
      this.renew = code === TOKEN_ENDED || openedAt === null;
      if (openedAt !== null && Date.now() - openedAt >= STEADY_AFTER_MS && code !== TOO_MUCH) this.failures = 0;
      this.gaveWay = code === GAVE_WAY;
      this.options.onClose(code);
      if (!this.gaveWay) this.retry();
    };
    /** The other end may be gone without a word, so nobody waits for its close. */
    const drop = (code: number) => (): void => {
      socket.close();
      ended(code);
    };
    const watch = (): void => {
      clearTimeout(this.watching);
      this.watching = setTimeout(() => {
        this.say({ action: "ping" });
        this.watching = setTimeout(drop(1006), PONG_WITHIN_MS);
      }, PING_EVERY_MS);
    };
    this.watching = setTimeout(drop(1006), OPEN_WITHIN_MS);
    socket.onopen = () => {
      if (this.socket !== socket) return;
      openedAt = Date.now();
      this.renew = false;
      const endsIn = endOf(token) - BEFORE_END_MS - openedAt;
      if (endsIn > 0 && endsIn < LONGEST_TIMER_MS) this.ending = setTimeout(drop(TOKEN_ENDED), endsIn);
      watch();
      this.options.onOpen();
    };
    socket.onmessage = (event: { data: unknown }) => {
      if (this.socket !== socket) return;
      // Any word of the server shows that the connection lives.
      watch();
      const push = parse(event.data);
      if (push) this.options.onPush(push);
    };
    // A close always follows.
    socket.onerror = () => undefined;
    socket.onclose = (event: { code: number }) => ended(event.code);
  }

  private retry(): void {
    if (this.ended) return;
    clearTimeout(this.retrying);
    // Random, so that the clients of a server that restarts do not come back all at once.
    this.retrying = setTimeout(() => void this.connect(), pauseAfter(null, this.failures++));
  }
}

/** When a JWT ends, ms since 1970 UTC; far away if the token does not say. */
function endOf(token: string): number {
  try {
    const part = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const { exp } = JSON.parse(atob(part)) as { exp?: unknown };
    return typeof exp === "number" ? exp * 1000 : Infinity;
  } catch {
    return Infinity;
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
