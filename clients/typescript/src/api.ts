/** Calls of the HTTP API: one method a route, with time-outs, retries and typed errors. */
import type { ChangePage, Conversation, ConversationPage, Message, MessagePage, Problem, Recalled } from "./types.js";

/** Gives a token that is good now. Called before each request; with `renew` after a 401 or when the last token has ended. */
export type TokenSource = (options: { renew: boolean }) => string | Promise<string>;

/**
 * An answer other than 2xx, or no answer. `code` is the stable code of the service (`docs/contract.md`, "Errors"), `http_` and the status
 * for an answer of API Gateway or a proxy, or one of `no_answer`, `timeout` and `aborted` with `status` 0.
 */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    /** The HTTP status; 0 if there was no answer. */
    readonly status: number,
    /** The code to branch on. */
    readonly code: string,
    /** The fault, for people. */
    detail: string,
    /** How long the service asks to wait before the next try, ms; null if it did not say. */
    readonly retryAfterMs: number | null = null,
    options?: ErrorOptions,
  ) {
    super(detail, options);
  }

  /** True if the same request may succeed later. Every request of {@link HongyanApi} is safe to repeat. */
  get isTransient(): boolean {
    return this.code !== "aborted" && (this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500);
  }
}

/** The way to the API. */
export interface ApiOptions {
  /** The address, such as `http://127.0.0.1:8080`, without a path. */
  baseUrl: string;
  token: TokenSource;
  /** The longest that one try takes, ms; 15,000 by default. */
  timeoutMs?: number;
  /** How often a call is tried again after no answer, 429 or 5xx; 2 by default. */
  retries?: number;
  /** Another `fetch`. */
  fetch?: typeof fetch;
}

/** The options of one call. */
export interface CallOptions {
  /** Ends the call with the code `aborted`. The request may have taken effect. */
  signal?: AbortSignal | undefined;
  /** In the place of {@link ApiOptions.retries}. */
  retries?: number;
}

/** A message to send. */
export interface Draft {
  toId: string;
  content: string;
  /** The sender's own name for the message, 1 to 64 characters, kept by the service for good: a repeated send is one message. */
  clientMsgId: string;
  /** 1 (text) by default; 1 to 255. */
  msgType?: number;
}

interface Request {
  query?: Record<string, string | number | undefined>;
  body?: unknown;
}

/** The pause before the first retry, ms; each further one is twice as long, up to the longest. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;
/** A longer `Retry-After` is not believed, ms. */
const LONGEST_ASKED_MS = 60_000;

/** The calls. Each rejects with an {@link ApiError}. Pages of a route are bounded by the route's own limit. */
export class HongyanApi {
  constructor(private readonly options: ApiOptions) {}

  /** Sends a message. Again with the same `clientMsgId`: the first message in its present state, which may be recalled. */
  send(draft: Draft, options?: CallOptions): Promise<Message> {
    return this.call("POST", "/messages", { body: draft }, options);
  }

  /** One message as it is now. 404 if the user has deleted or cleared the message. */
  message(id: string, options?: CallOptions): Promise<Message> {
    return this.call("GET", `/messages/${id}`, {}, options);
  }

  /** Takes a message of one's own back, for both users. 409 `recall_window_closed` later than 5 minutes after the send. */
  recall(id: string, options?: CallOptions): Promise<Recalled> {
    return this.call("POST", `/messages/${id}/recall`, {}, options);
  }

  /** Hides a message from one's own history. */
  delete(id: string, options?: CallOptions): Promise<void> {
    return this.call("DELETE", `/messages/${id}`, {}, options);
  }

  /** Hides every message up to `upTo`, a message of the conversation, from one's own history. */
  clear(peerId: string, upTo: string, options?: CallOptions): Promise<void> {
    return this.call("DELETE", `/conversations/${peerId}/messages`, { query: { upTo } }, options);
  }

  /** A page of the conversation, newest first; with `before`, of older messages. `limit`: 1 to 100, 20 by default. */
  messages(peerId: string, query: { limit?: number; before?: string } = {}, options?: CallOptions): Promise<MessagePage> {
    return this.call("GET", `/conversations/${peerId}/messages`, { query }, options);
  }

  /** Changes with numbers above `after`, in the order of their numbers. `limit`: 1 to 200. */
  changes(peerId: string, after: number | string, limit = 200, options?: CallOptions): Promise<ChangePage> {
    return this.call("GET", `/conversations/${peerId}/changes`, { query: { after, limit } }, options);
  }

  /** A page of the list of conversations; with `changedAfter`, of those that have news. `limit`: 1 to 100, 20 by default. */
  conversations(
    query: { limit?: number; before?: string; changedAfter?: string } = {},
    options?: CallOptions,
  ): Promise<ConversationPage> {
    return this.call("GET", "/conversations", { query }, options);
  }

  /** One conversation. 404 while the two users have no message. */
  conversation(peerId: string, options?: CallOptions): Promise<Conversation> {
    return this.call("GET", `/conversations/${peerId}`, {}, options);
  }

  /** Marks everything up to `upTo`, a message of the conversation, as read. Answers what is left unread in all conversations. */
  read(peerId: string, upTo: string, options?: CallOptions): Promise<{ unread: number }> {
    return this.call("POST", `/conversations/${peerId}/read`, { body: { upTo } }, options);
  }

  /** How many messages are unread in all conversations, and the newest 1,000 of them. */
  unread(options?: CallOptions): Promise<{ total: number; messageIds: string[] }> {
    return this.call("GET", "/unread", {}, options);
  }

  /** Refuses the sends of a user from now on. */
  block(userId: string, options?: CallOptions): Promise<void> {
    return this.call("PUT", `/blocks/${userId}`, {}, options);
  }

  /** Takes the sends of a user again. */
  unblock(userId: string, options?: CallOptions): Promise<void> {
    return this.call("DELETE", `/blocks/${userId}`, {}, options);
  }

  /** The users whom the caller has blocked. */
  async blocks(options?: CallOptions): Promise<string[]> {
    return (await this.call<{ userIds: string[] }>("GET", "/blocks", {}, options)).userIds;
  }

  private async call<T>(method: string, path: string, request: Request, options: CallOptions = {}): Promise<T> {
    const retries = options.retries ?? this.options.retries ?? 2;
    for (let tried = 0; ; tried++) {
      try {
        return await this.once<T>(method, path, request, options.signal);
      } catch (error) {
        if (!(error instanceof ApiError) || !error.isTransient || tried >= retries) throw error;
        await pause(pauseAfter(error, tried), options.signal);
      }
    }
  }

  private async once<T>(method: string, path: string, request: Request, signal?: AbortSignal): Promise<T> {
    let answer = await this.request(method, path, request, false, signal);
    if (answer.status === 401) answer = await this.request(method, path, request, true, signal);
    if (answer.ok) return (answer.text === "" ? undefined : parse(answer.text)) as T;
    // API Gateway's own answers have a `message` and no code; a proxy's may be no JSON at all.
    const problem = (parse(answer.text) ?? {}) as Partial<Problem> & { message?: string };
    const seconds = Number(answer.retryAfter ?? NaN);
    throw new ApiError(
      answer.status,
      problem.code ?? `http_${answer.status}`,
      problem.detail ?? problem.message ?? `${method} ${path} was answered ${answer.status}`,
      seconds >= 0 ? Math.min(seconds * 1000, LONGEST_ASKED_MS) : null,
    );
  }

  /** One try. The body is read within the same time-out, since an answer may break off. */
  private async request(method: string, path: string, request: Request, renew: boolean, signal?: AbortSignal) {
    const url = new URL(path, this.options.baseUrl);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const limit = AbortSignal.timeout(this.options.timeoutMs ?? 15_000);
    try {
      const headers: Record<string, string> = { authorization: `Bearer ${await this.options.token({ renew })}` };
      const init: RequestInit = { method, headers, signal: signal ? AbortSignal.any([limit, signal]) : limit };
      if (request.body !== undefined) {
        headers["content-type"] = "application/json";
        init.body = JSON.stringify(request.body);
      }
      const answer = await (this.options.fetch ?? fetch)(url, init);
      const text = await answer.text();
      return { ok: answer.ok, status: answer.status, text, retryAfter: answer.headers.get("retry-after") };
    } catch (cause) {
      const code = signal?.aborted ? "aborted" : limit.aborted ? "timeout" : "no_answer";
      throw new ApiError(0, code, `${method} ${path}: ${code} (${String(cause)})`, null, { cause });
    }
  }
}

/** How long to wait after an error before try number `tried` + 2, ms: as the service asks, and random beyond, so that clients spread. */
export function pauseAfter(error: unknown, tried: number): number {
  const grown = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(tried, 20));
  const asked = error instanceof ApiError ? error.retryAfterMs : null;
  return asked === null ? grown * (0.5 + Math.random() / 2) : asked + Math.random() * FIRST_PAUSE_MS;
}

/** Waits so many ms, or until the signal is aborted; never rejects. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal?.aborted) done();
    else signal?.addEventListener("abort", done);
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
