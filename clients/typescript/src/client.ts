/** A client that stays right: list, conversations, sending, pushes, catching up. */
import { ApiError, HongyanApi } from "./api.js";
import type { ApiOptions } from "./api.js";
import { PushSocket } from "./socket.js";
import type { SocketConstructor } from "./socket.js";
import { compareIds, peerOf } from "./types.js";
import type { Conversation, Message, Push } from "./types.js";
import { ConversationView } from "./view.js";
import type { Outgoing } from "./view.js";

/** Keeps messages that are not accepted yet, so that they outlive the page. */
export interface OutboxStorage {
  load(): Outgoing[] | Promise<Outgoing[]>;
  save(outbox: readonly Outgoing[]): void | Promise<void>;
}

/** The options of a client. */
export interface ClientOptions extends ApiOptions {
  /** The user whose tokens `token` gives. */
  user: string;
  /** The WebSocket's address; by default that of `baseUrl` with the path `/ws`. */
  socketUrl?: string;
  /** Needed on Node 20, which has no WebSocket: that of the package `ws`. */
  WebSocket?: SocketConstructor;
  outbox?: OutboxStorage;
}

/** Asks for the present number alone: no conversation has so many changes. */
const NEWEST = "9223372036854775807";
/** Pauses before a conversation with messages that wait for MySQL is asked again, ms. */
const SETTLE_FIRST_MS = 150;
const SETTLE_LONGEST_MS = 2_000;
/** A message that waits when the pause has grown to this is asked for by its id, ms. */
const DOUBT_AFTER_MS = 1_200;
/** Pauses before a send, or a catching up, is tried again, ms. */
const RETRY_FIRST_MS = 300;
const RETRY_LONGEST_MS = 10_000;
/** How long a peer counts as typing after a push, ms. */
const TYPING_MS = 5_000;
const TYPING_EVERY_MS = 3_000;

/** The client of one user on one device. */
export class HongyanClient {
  readonly api: HongyanApi;
  /** The conversations of the list, by peer. */
  readonly conversations = new Map<string, Conversation>();
  /** The open conversations, by peer. */
  readonly views = new Map<string, ConversationView>();
  /** Messages that the server has not accepted yet, oldest first. */
  readonly outbox: Outgoing[] = [];
  /** True while pushes arrive and everything before them is caught up. */
  online = false;

  private readonly socket: PushSocket;
  private readonly listeners = new Set<() => void>();
  private readonly typingUntil = new Map<string, number>();
  private readonly toldTyping = new Map<string, number>();
  private readonly settling = new Map<string, { timer: ReturnType<typeof setTimeout>; pause: number }>();
  private readonly running = new Map<string, Promise<void>>();
  private readonly again = new Set<string>();
  private readonly stale = new Set<string>();
  /** Messages that were recalled (with the time) or deleted (null) while this client was there. */
  private readonly hidden = new Map<string, number | null>();
  private readonly ended = new AbortController();
  private cursor: string | null = null;
  private older: string | null | undefined = undefined;
  private connection = 0;
  private told = false;

  constructor(private readonly options: ClientOptions) {
    this.api = new HongyanApi(options);
    const url = new URL(options.socketUrl ?? "/ws", options.baseUrl);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new PushSocket({
      url: url.href,
      token: options.token,
      ...(options.WebSocket ? { WebSocket: options.WebSocket } : {}),
      onPush: (push) => this.pushed(push),
      onOpen: () => void this.opened(++this.connection),
      onClose: () => {
        this.online = false;
        this.changed();
      },
    });
  }

  /** The user. */
  get user(): string {
    return this.options.user;
  }

  /** Connects. The copy fills and stays right until {@link stop}. */
  async start(): Promise<void> {
    for (const outgoing of (await this.options.outbox?.load()) ?? []) {
      this.outbox.push(outgoing);
      if (outgoing.state === "sending") this.deliver(outgoing.peerId);
    }
    this.socket.open();
  }

  /** Ends all work. Messages that are not accepted stay in the outbox's storage. */
  stop(): void {
    this.ended.abort();
    this.socket.close();
    for (const { timer } of this.settling.values()) clearTimeout(timer);
    this.settling.clear();
    this.listeners.clear();
  }

  /** Tries to connect now, for example when the browser says that it is online. */
  hurry(): void {
    this.socket.hurry();
  }

  /** Calls `listener` after changes of the copy, at most once for those of one task. Returns the way to stop. */
  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** The list, by last activity, newest first. */
  list(): Conversation[] {
    return [...this.conversations.values()].sort((a, b) => b.lastActivity - a.lastActivity || compareIds(b.peerId, a.peerId));
  }

  /** True if the list has conversations that were not read yet. */
  get hasOlderConversations(): boolean {
    return typeof this.older === "string";
  }

  /** Reads a further page of the list. */
  async olderConversations(): Promise<void> {
    if (typeof this.older !== "string") return;
    const page = await this.api.conversations({ before: this.older, limit: 100 });
    for (const conversation of page.conversations) {
      if (!this.conversations.has(conversation.peerId)) this.noteConversation(conversation);
    }
    this.older = page.next;
    this.changed();
  }

  /** Opens a conversation and follows it. Resolves once its newest page is there. */
  async open(peerId: string): Promise<ConversationView> {
    const view = this.viewOf(peerId);
    if (view.older === undefined) await this.catchUp(peerId);
    return view;
  }

  /** Reads a page of older messages. False at the beginning of the history. */
  async loadOlder(peerId: string, limit = 30): Promise<boolean> {
    const view = this.viewOf(peerId);
    if (view.older === null) return false;
    if (view.older === undefined) {
      await this.catchUp(peerId);
      return view.older !== null;
    }
    const before = view.older;
    const page = await this.api.messages(peerId, { before, limit });
    for (const message of page.messages) view.put(message);
    if (view.older === before) view.older = page.next;
    this.changed();
    return page.next !== null;
  }

  /** Writes a message. It is in the outbox at once, and in the conversation when the server has accepted it. */
  send(peerId: string, content: string, msgType = 1): Outgoing {
    const clientMsgId = crypto.randomUUID();
    const outgoing: Outgoing = { clientMsgId, peerId, content, msgType, writtenAt: Date.now(), state: "sending" };
    this.outbox.push(outgoing);
    this.saveOutbox();
    this.changed();
    this.deliver(peerId);
    return outgoing;
  }

  /** Tries a refused message again. */
  retry(outgoing: Outgoing): void {
    outgoing.state = "sending";
    delete outgoing.error;
    this.saveOutbox();
    this.changed();
    this.deliver(outgoing.peerId);
  }

  /** Drops a refused message. */
  discard(outgoing: Outgoing): void {
    if (outgoing.state === "failed") this.takeOut(outgoing);
  }

  /** Takes a message of one's own back, for both users. */
  async recall(message: Message): Promise<void> {
    const { recallTime } = await this.api.recall(message.id);
    const peerId = peerOf(message.conversationId, this.user);
    this.views.get(peerId)?.recall(message.id, recallTime);
    this.hide(peerId, message.id, recallTime);
    this.refresh(peerId);
    this.changed();
  }

  /** Hides a message from the own history. */
  async delete(message: Message): Promise<void> {
    await this.api.delete(message.id);
    const peerId = peerOf(message.conversationId, this.user);
    const change = { type: "MESSAGE_DELETED", messageId: message.id, conversationId: message.conversationId } as const;
    this.views.get(peerId)?.apply(change);
    this.hide(peerId, message.id, null);
    this.refresh(peerId);
    this.changed();
  }

  /** Hides everything that is shown now from the own history. */
  async clear(peerId: string): Promise<void> {
    const newest = this.viewOf(peerId).inOrder().at(-1) ?? this.conversations.get(peerId)?.lastMessage;
    if (!newest) return;
    await this.api.clear(peerId, newest.id);
    this.viewOf(peerId).apply({ type: "CONVERSATION_CLEARED", conversationId: newest.conversationId, upTo: newest.id });
    this.refresh(peerId);
    this.changed();
  }

  /** Marks everything that is shown as read. */
  async markRead(peerId: string): Promise<void> {
    const view = this.viewOf(peerId);
    const newest = view.inOrder().at(-1);
    const before = view.readUpTo.get(this.user);
    if (!newest || (before !== undefined && compareIds(before, newest.id) >= 0)) return;
    await this.api.read(peerId, newest.id);
    view.apply({ type: "READ", conversationId: newest.conversationId, userId: this.user, upTo: newest.id });
    this.refresh(peerId);
    this.changed();
  }

  /** Tells the peer that the user is typing, at most once in 3 s. */
  tellTyping(peerId: string): void {
    const now = Date.now();
    if (now - (this.toldTyping.get(peerId) ?? 0) < TYPING_EVERY_MS) return;
    this.toldTyping.set(peerId, now);
    this.socket.say({ action: "typing", toId: peerId });
  }

  /** True if the peer was typing a moment ago. */
  isTyping(peerId: string): boolean {
    return (this.typingUntil.get(peerId) ?? 0) > Date.now();
  }

  private viewOf(peerId: string): ConversationView {
    let view = this.views.get(peerId);
    if (!view) {
      view = new ConversationView(this.user, peerId);
      const known = this.conversations.get(peerId);
      if (known) view.note(known);
      this.views.set(peerId, view);
    }
    return view;
  }

  /** The socket is open: catches up with everything that happened before, and is online then. */
  private async opened(connection: number): Promise<void> {
    const current = (): boolean => connection === this.connection && !this.ended.signal.aborted;
    await this.untilDone("connect", current, async () => {
      await this.readList();
      for (const peerId of this.views.keys()) await this.catchUp(peerId);
    });
    if (!current()) return;
    this.online = true;
    this.changed();
  }

  /** Reads the newest page of the list at first, and later the conversations that have news. */
  private async readList(): Promise<void> {
    if (this.cursor === null) {
      const page = await this.api.conversations({ limit: 100 });
      page.conversations.forEach((conversation) => this.noteConversation(conversation));
      this.cursor = page.cursor;
      this.older = page.next;
      this.changed();
      return;
    }
    // The cursor of the first page counts: what changes while the pages are read comes again.
    let first: string | null = null;
    let before: string | null = null;
    do {
      const query: { changedAfter: string; limit: number; before?: string } = { changedAfter: this.cursor, limit: 100 };
      if (before !== null) query.before = before;
      const page = await this.api.conversations(query);
      page.conversations.forEach((conversation) => this.noteConversation(conversation));
      first ??= page.cursor;
      before = page.next;
    } while (before !== null);
    this.cursor = first;
    this.changed();
  }

  private noteConversation(conversation: Conversation): void {
    this.conversations.set(conversation.peerId, this.withoutHidden(conversation));
    this.views.get(conversation.peerId)?.note(conversation);
  }

  /** An answer may be older than a push that has taken its last message away. */
  private withoutHidden(conversation: Conversation): Conversation {
    const last = conversation.lastMessage;
    const hidden = last ? this.hidden.get(last.id) : undefined;
    if (!last || hidden === undefined) return conversation;
    return { ...conversation, lastMessage: hidden === null ? null : { ...last, content: "", status: 0, recallTime: hidden } };
  }

  /** The words of a message are not shown again, not even in the list: it was recalled at a time, or deleted (null). */
  private hide(peerId: string, id: string, recallTime: number | null): void {
    this.hidden.set(id, recallTime);
    const known = this.conversations.get(peerId);
    if (known) this.conversations.set(peerId, this.withoutHidden(known));
  }

  /** Reads one conversation of the list again, soon. */
  private refresh(peerId: string): void {
    if (this.stale.has(peerId)) return;
    this.stale.add(peerId);
    setTimeout(() => {
      this.stale.delete(peerId);
      if (this.ended.signal.aborted) return;
      this.api.conversation(peerId).then(
        (conversation) => {
          this.noteConversation(conversation);
          this.changed();
        },
        (error: unknown) => {
          // Two users without a message: the conversation is not in the list. After any other fault the next
          // connection reads what has changed.
          if (error instanceof ApiError && error.status === 404) {
            this.conversations.delete(peerId);
            this.changed();
          }
        },
      );
    }, 60);
  }

  /** Applies all changes that are there, and reads the newest page, which has the messages without a number. One run at a time. */
  private async catchUp(peerId: string): Promise<void> {
    const running = this.running.get(peerId);
    if (running) {
      // The run may have passed the new change already.
      this.again.add(peerId);
      return running;
    }
    const run = (async () => {
      do {
        this.again.delete(peerId);
        await this.applyChanges(this.viewOf(peerId));
      } while (this.again.has(peerId) && !this.ended.signal.aborted);
    })().finally(() => this.running.delete(peerId));
    this.running.set(peerId, run);
    await run;
    this.settle(peerId);
    this.changed();
  }

  private async applyChanges(view: ConversationView): Promise<void> {
    if (view.lastSeq === null) {
      // First the number, then the page: in the other order the changes between the two are missed.
      const { lastSeq } = await this.api.changes(view.peerId, NEWEST, 1);
      view.lastSeq = lastSeq;
    } else {
      let after = view.lastSeq;
      for (;;) {
        const page = await this.api.changes(view.peerId, after);
        if (page.lastSeq < after) {
          // MySQL has lost a change that it had shown and not acknowledged.
          view.startAnew();
          return this.applyChanges(view);
        }
        for (const change of page.changes) view.apply(change);
        if (page.next === null) {
          view.lastSeq = page.lastSeq;
          break;
        }
        after = page.next;
        view.lastSeq = after;
      }
    }
    const page = await this.api.messages(view.peerId, { limit: 30 });
    for (const message of page.messages) view.put(message);
    if (view.older === undefined) view.older = page.next;
  }

  /** Asks again while messages wait for their number, less and less often. */
  private settle(peerId: string): void {
    const view = this.views.get(peerId);
    const before = this.settling.get(peerId);
    if (!view?.waits || this.ended.signal.aborted) {
      if (before) clearTimeout(before.timer);
      this.settling.delete(peerId);
      return;
    }
    if (before?.timer) clearTimeout(before.timer);
    const pause = Math.min(SETTLE_LONGEST_MS, (before?.pause ?? SETTLE_FIRST_MS / 2) * 2);
    const timer = setTimeout(() => {
      const verified = pause >= DOUBT_AFTER_MS ? this.verify(view) : Promise.resolve();
      verified.then(() => this.catchUp(peerId)).catch(() => this.settle(peerId));
    }, pause);
    this.settling.set(peerId, { timer, pause });
  }

  /**
   * Asks for each message that has waited for long. A retried send that the service could not recognise became a second message, which
   * gave way to the first and is 404 from then on.
   */
  private async verify(view: ConversationView): Promise<void> {
    const waiting = view.inOrder().filter((message) => message.seq === null && message.status === 1);
    for (const { id } of waiting) {
      try {
        view.put(await this.api.message(id));
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 404) throw error;
        view.messages.delete(id);
      }
    }
  }

  private pushed(push: Push): void {
    if (push.type === "PONG" || push.type === "ERROR") return;
    const conversationId = push.type === "MESSAGE" ? push.data.conversationId : push.conversationId;
    const peerId = peerOf(conversationId, this.user);
    if (push.type === "TYPING") {
      this.typingUntil.set(peerId, Date.now() + TYPING_MS);
      setTimeout(() => this.changed(), TYPING_MS + 10);
      this.changed();
      return;
    }
    const view = this.views.get(peerId);
    if (push.type === "MESSAGE_RECALLED") this.hide(peerId, push.messageId, push.recallTime);
    if (push.type === "MESSAGE_DELETED") this.hide(peerId, push.messageId, null);
    if (push.type === "MESSAGE") {
      if (push.data.fromUserId !== this.user) this.typingUntil.delete(peerId);
      if (push.data.fromUserId === this.user && push.data.clientMsgId !== undefined) {
        const outgoing = this.outbox.find((one) => one.clientMsgId === push.data.clientMsgId);
        if (outgoing) this.takeOut(outgoing);
      }
    }
    if (view && view.older !== undefined && !view.apply(push) && push.type === "MESSAGE") {
      this.readWhole(view, push.data.id);
    }
    if (view) {
      const settling = this.settling.get(peerId);
      if (settling) settling.pause = SETTLE_FIRST_MS / 2;
      this.settle(peerId);
    }
    this.refresh(peerId);
    this.changed();
  }

  /** Reads a message whose push was too large for its content. */
  private readWhole(view: ConversationView, id: string): void {
    this.api.message(id).then(
      (message) => {
        view.put(message);
        this.changed();
      },
      // The changes have the message, too.
      () => this.catchUp(view.peerId).catch(() => undefined),
    );
  }

  /** Sends what waits for this peer, one message after the other, so that their order is kept. */
  private deliver(peerId: string): void {
    const key = `send ${peerId}`;
    if (this.running.has(key)) return;
    const run = (async () => {
      for (;;) {
        const next = this.outbox.find((one) => one.peerId === peerId && one.state === "sending");
        if (!next || this.ended.signal.aborted) return;
        await this.untilDone("send", () => this.outbox.includes(next) && !this.ended.signal.aborted, () => this.sendOnce(next));
      }
    })().finally(() => this.running.delete(key));
    this.running.set(key, run);
  }

  private async sendOnce(outgoing: Outgoing): Promise<void> {
    const { peerId, content, msgType, clientMsgId } = outgoing;
    try {
      const message = await this.api.send({ toId: peerId, content, msgType, clientMsgId }, this.ended.signal);
      this.viewOf(peerId).put(message);
      this.takeOut(outgoing);
      this.settle(peerId);
      this.refresh(peerId);
    } catch (error) {
      if (!(error instanceof ApiError) || error.isTransient) throw error;
      outgoing.state = "failed";
      outgoing.error = { code: error.code, detail: error.message };
      this.saveOutbox();
    }
    this.changed();
  }

  private takeOut(outgoing: Outgoing): void {
    const place = this.outbox.indexOf(outgoing);
    if (place >= 0) this.outbox.splice(place, 1);
    this.saveOutbox();
    this.changed();
  }

  private saveOutbox(): void {
    void this.options.outbox?.save(this.outbox);
  }

  /** Repeats `work` until it succeeds or nobody `wants` it, with growing random pauses, or as the server asks. */
  private async untilDone(_what: string, wants: () => boolean, work: () => Promise<void>): Promise<void> {
    for (let pause = RETRY_FIRST_MS; wants(); pause = Math.min(RETRY_LONGEST_MS, pause * 2)) {
      try {
        await work();
        return;
      } catch (error) {
        const asked = error instanceof ApiError ? error.retryAfterMs : null;
        const wait = asked ?? pause * (0.5 + Math.random() / 2);
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  }

  private changed(): void {
    if (this.told) return;
    this.told = true;
    queueMicrotask(() => {
      this.told = false;
      for (const listener of this.listeners) listener();
    });
  }
}
