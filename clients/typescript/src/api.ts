/** Calls of the HTTP API. */
import type { ChangePage, Conversation, ConversationPage, Message, MessagePage, Problem } from "./types.js";

/** Gives a token that is good now. Called before each request, and again after a 401. */
export type TokenSource = (options: { renew: boolean }) => string | Promise<string>;

/** An answer other than 2xx, or no answer (`status` 0, `code` `no_answer`). */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    /** The HTTP status; 0 if there was no answer. */
    readonly status: number,
    /** The stable code to branch on (`docs/contract.md`, "Errors"). */
    readonly code: string,
    /** The fault, for people. */
    detail: string,
    /** How long to wait before the next try, ms; null if the server did not say. */
    readonly retryAfterMs: number | null = null,
  ) {
    super(detail);
  }

  /** True if the same request may succeed later. A send with a `clientMsgId` is safe to repeat. */
  get isTransient(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** The way to the API. */
export interface ApiOptions {
  /** The address, such as `http://127.0.0.1:8080`, without a path. */
  baseUrl: string;
  token: TokenSource;
  /** The longest that one request takes, ms; 15,000 by default. */
  timeoutMs?: number;
  /** Another `fetch`, for tests. */
  fetch?: typeof fetch;
}

/** A message to send. */
export interface Draft {
  toId: string;
  content: string;
  /** The sender's own name for the message, at most 64 characters. Only with it a repeated send is one message. */
  clientMsgId: string;
  /** 1 by default; 1 to 255. */
  msgType?: number;
}

interface Call {
  query?: Record<string, string | number | undefined>;
  body?: unknown;
  signal?: AbortSignal | undefined;
}

/** The calls, one method a route. Each rejects with an {@link ApiError}. */
export class HongyanApi {
  constructor(private readonly options: ApiOptions) {}

  /** Accepts a message. Again with the same `clientMsgId`: the first message. */
  send(draft: Draft, signal?: AbortSignal): Promise<Message> {
    return this.call("POST", "/messages", { body: draft, signal });
  }

  /** One message as it is now. */
  message(id: string): Promise<Message> {
    return this.call("GET", `/messages/${id}`);
  }

  /** Takes a message of one's own back. */
  recall(id: string): Promise<{ id: string; recallTime: number }> {
    return this.call("POST", `/messages/${id}/recall`);
  }

  /** Hides a message from one's own history. */
  delete(id: string): Promise<void> {
    return this.call("DELETE", `/messages/${id}`);
  }

  /** Hides every message up to `upTo` from one's own history. */
  clear(peerId: string, upTo: string): Promise<void> {
    return this.call("DELETE", `/conversations/${peerId}/messages`, { query: { upTo } });
  }

  /** A page of the conversation, newest first; with `before`, of older messages. */
  messages(peerId: string, query: { limit?: number; before?: string } = {}): Promise<MessagePage> {
    return this.call("GET", `/conversations/${peerId}/messages`, { query });
  }

  /** Changes with numbers above `after`. */
  changes(peerId: string, after: number | string, limit = 200): Promise<ChangePage> {
    return this.call("GET", `/conversations/${peerId}/changes`, { query: { after, limit } });
  }

  /** A page of the list of conversations; with `changedAfter`, of those that have news. */
  conversations(query: { limit?: number; before?: string; changedAfter?: string } = {}): Promise<ConversationPage> {
    return this.call("GET", "/conversations", { query });
  }

  /** One conversation. */
  conversation(peerId: string): Promise<Conversation> {
    return this.call("GET", `/conversations/${peerId}`);
  }

  /** Marks everything up to `upTo` as read. */
  read(peerId: string, upTo: string): Promise<{ unread: number }> {
    return this.call("POST", `/conversations/${peerId}/read`, { body: { upTo } });
  }

  /** Refuses a user's messages from now on. */
  block(userId: string): Promise<void> {
    return this.call("PUT", `/blocks/${userId}`);
  }

  /** Takes a user's messages again. */
  unblock(userId: string): Promise<void> {
    return this.call("DELETE", `/blocks/${userId}`);
  }

  /** Whom the caller has blocked. */
  async blocks(): Promise<string[]> {
    return (await this.call<{ userIds: string[] }>("GET", "/blocks")).userIds;
  }

  private async call<T>(method: string, path: string, call: Call = {}): Promise<T> {
    let answer = await this.request(method, path, call, false);
    if (answer.status === 401) {
      answer = await this.request(method, path, call, true);
    }
    if (answer.ok) {
      return (answer.status === 204 ? undefined : await this.json(answer)) as T;
    }
    // API Gateway's own answers have a `message` and no code.
    const problem = (await this.json(answer).catch(() => ({}))) as Partial<Problem> & { message?: string };
    const seconds = Number(answer.headers.get("retry-after"));
    throw new ApiError(
      answer.status,
      problem.code ?? `http_${answer.status}`,
      problem.detail ?? problem.message ?? `${method} ${path} was answered ${answer.status}`,
      seconds > 0 ? seconds * 1000 : null,
    );
  }

  private async request(method: string, path: string, call: Call, renew: boolean): Promise<Response> {
    const url = new URL(path, this.options.baseUrl);
    for (const [name, value] of Object.entries(call.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const limit = AbortSignal.timeout(this.options.timeoutMs ?? 15_000);
    const headers: Record<string, string> = { authorization: `Bearer ${await this.options.token({ renew })}` };
    const init: RequestInit = { method, headers, signal: call.signal ? AbortSignal.any([limit, call.signal]) : limit };
    if (call.body !== undefined) {
      headers["content-type"] = "application/json";
      init.body = JSON.stringify(call.body);
    }
    try {
      return await (this.options.fetch ?? fetch)(url, init);
    } catch (error) {
      throw new ApiError(0, "no_answer", `${method} ${path} was not answered: ${String(error)}`);
    }
  }

  private async json(answer: Response): Promise<unknown> {
    try {
      return await answer.json();
    } catch (error) {
      throw new ApiError(0, "no_answer", `the answer broke off: ${String(error)}`);
    }
  }
}
