/** A client that stays right: list, conversations, sending, pushes, catching up. */
import { ApiError, HongyanApi, pause, pauseAfter } from "./api.js";
import type { ApiOptions } from "./api.js";
import type { Outgoing, OutboxStorage } from "./outbox.js";
import { PushSocket } from "./socket.js";
import type { SocketConstructor } from "./socket.js";
import { compareIds, peerOf } from "./types.js";
import type { Change, Conversation, Message, Push } from "./types.js";
import { ConversationView, Hidden } from "./view.js";

/** The options of a client. */
export interface ClientOptions extends ApiOptions {
  /** The user whose tokens `token` gives. */
  user: string;
  /** The WebSocket's address; by default that of `baseUrl` with the path `/ws`. */
  socketUrl?: string;
  /** Needed on Node 20, which has no WebSocket: that of the package `ws`. */
  WebSocket?: SocketConstructor;
  outbox?: OutboxStorage;
  /**
   * How often the client asks for what no push told of, ms; 60,000 by default, a tenth more or less. A push is best effort: one that got
   * lost on a living connection is noticed then.
   */
  resyncMs?: number;
  /** Told of faults that the client goes on after: the storage of the outbox, a listener that throws. By default `console.warn`. */
  onError?: (error: unknown) => void;
}

/** Asks for the present number alone: no conversation has so many changes. */
const NEWEST = "9223372036854775807";
/** Messages of a page when a conversation is opened. */
const PAGE = 30;
/** Pauses before a conversation with messages that wait for MySQL is asked again, ms. */
const SETTLE_FIRST_MS = 150;
const SETTLE_LONGEST_MS = 2_000;
/** A message that waits when the pause has grown to this is asked for by its id, ms. */
const DOUBT_AFTER_MS = 1_200;
/** The most messages that are asked for by their ids at a time. */
const DOUBTS = 10;
/** The pause between a push and the question how the conversation stands, ms. */
const REFRESH_AFTER_MS = 100;
const RESYNC_MS = 60_000;
/** How long a peer counts as typing after a push, ms. */
const TYPING_MS = 5_000;
/** The service relays typing at most once in this time, ms. */
const TYPING_EVERY_MS = 3_000;

/** The client of one user on one device. */
export class HongyanClient {
  readonly api: HongyanApi;
  /** The conversations of the list, by peer. */
  readonly conversations = new Map<string, Conversation>();
  /** The open conversations, by peer. */
  readonly views = new Map<string, ConversationView>();
  /** True while pushes arrive and everything before them is caught up. */
  online = false;

  private readonly socket: PushSocket;
  private readonly listeners = new Set<() => void>();
  /** Messages without an answer, oldest first. */
  private readonly unanswered: Outgoing[] = [];
  /** Names of unanswered messages that a push has shown to be accepted. */
  private readonly shownAlready = new Set<string>();
  private readonly delivering = new Set<string>();
  private readonly typingUntil = new Map<string, number>();
  private readonly toldTyping = new Map<string, number>();
  private readonly settling = new Map<string, { timer: ReturnType<typeof setTimeout>; pause: number }>();
  private readonly catching = new Map<string, { run: Promise<void>; again: boolean; page: boolean }>();
  /** Copies that are being read anew. Pushes are applied to them too. */
  private readonly rebuilding = new Map<string, ConversationView>();
  private readonly refreshing = new Map<string, { again: boolean }>();
  /** The messages that must not be shown, by peer. */
  private readonly hidden = new Map<string, Hidden>();
  /** When, by {@link clock}, a conversation was last told of by a push or an answer about it alone. */
  private readonly touched = new Map<string, number>();
  private readonly ended = new AbortController();
  private clock = 0;
  private cursor: string | null = null;
  private older: string | null | undefined = undefined;
  private connection = 0;
  private resyncing: ReturnType<typeof setTimeout> | undefined;
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
        this.connection += 1;
        this.online = false;
        this.changed();
      },
    });
  }

  /** The user. */
  get user(): string {
    return this.options.user;
  }

  /** Messages that are not accepted yet as far as is known, oldest first. */
  get outbox(): readonly Outgoing[] {
    return this.unanswered.filter(({ clientMsgId }) => !this.shownAlready.has(clientMsgId));
  }

  /** True after another device or page took the place of this one: more than 20 are connected. {@link hurry} connects again. */
  get gaveWay(): boolean {
    return this.socket.gaveWay;
  }

  /** Connects. The copy fills and stays right until {@link stop}. */
  async start(): Promise<void> {
    for (const outgoing of await this.stored()) {
      this.unanswered.push({ ...outgoing });
      if (outgoing.state === "sending") void this.deliver(outgoing.peerId);
    }
    this.socket.open();
  }

  /** Ends all work. Messages that are not accepted stay in the outbox's storage. */
  stop(): void {
    this.ended.abort();
    this.connection += 1;
    this.online = false;
    this.socket.close();
    clearTimeout(this.resyncing);
    for (const { timer } of this.settling.values()) clearTimeout(timer);
    this.settling.clear();
    this.listeners.clear();
  }

  /** Tries to connect now, for example when the browser says that it is online. */
  hurry(): void {
    this.socket.hurry();
  }

  /** Asks for everything that pushes may not have told of. Rejects with an {@link ApiError} if the service does not answer. */
  async sync(): Promise<void> {
    await this.readList();
    await Promise.all([...this.views.keys()].map((peerId) => this.catchUp(peerId, true)));
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
    const asked = ++this.clock;
    const page = await this.api.conversations({ before: this.older, limit: 100 });
    for (const conversation of page.conversations) this.noteConversation(conversation, asked);
    this.older = page.next;
    this.changed();
  }

  /** Opens a conversation and follows it. Resolves once its newest page is there. */
  async open(peerId: string): Promise<ConversationView> {
    const view = this.viewOf(peerId);
    if (view.older === undefined) await this.catchUp(peerId, false);
    return view;
  }

  /** Reads a page of older messages. False at the beginning of the history. */
  async loadOlder(peerId: string, limit = PAGE): Promise<boolean> {
    const view = await this.open(peerId);
    const { older, generation } = view;
    if (typeof older !== "string") return false;
    const page = await this.api.messages(peerId, { before: older, limit });
    // The copy was read anew meanwhile, and may know less of recalls than this page needs.
    if (view.generation !== generation) return view.older !== null;
    for (const message of page.messages) view.put(message);
    if (view.older === older) view.older = page.next;
    this.changed();
    return view.older !== null;
  }

  /** Writes a message. It is in the outbox at once, and in the conversation when the service has accepted it. */
  send(peerId: string, content: string, msgType = 1): Outgoing {
    const clientMsgId = newName();
    const outgoing: Outgoing = { clientMsgId, peerId, content, msgType, writtenAt: Date.now(), state: "sending" };
    this.unanswered.push(outgoing);
    this.saveOutbox();
    this.changed();
    void this.deliver(peerId);
    return outgoing;
  }

  /** Tries a refused message again. */
  retry(outgoing: Outgoing): void {
    outgoing.state = "sending";
    delete outgoing.error;
    this.saveOutbox();
    this.changed();
    void this.deliver(outgoing.peerId);
  }

  /** Drops a refused message. A message that is being sent may be accepted already: it is recalled later, and not dropped. */
  discard(outgoing: Outgoing): void {
    if (outgoing.state === "failed") this.takeOut(outgoing);
  }

  /** Takes a message of one's own back, for both users. */
  async recall(message: Message): Promise<void> {
    const { recallTime } = await this.api.recall(message.id);
    const { id: messageId, conversationId } = message;
    this.applied({ type: "MESSAGE_RECALLED", messageId, conversationId, recallTime }, conversationId);
  }

  /** Hides a message from the own history. */
  async delete(message: Message): Promise<void> {
    await this.api.delete(message.id);
    const { id: messageId, conversationId } = message;
    this.applied({ type: "MESSAGE_DELETED", messageId, conversationId }, conversationId);
  }

  /** Hides everything up to a message from the own history, by default everything that is shown now. */
  async clear(peerId: string, upTo?: Message): Promise<void> {
    const last = upTo ?? this.newest(peerId);
    if (!last) return;
    await this.api.clear(peerId, last.id);
    this.applied({ type: "CONVERSATION_CLEARED", conversationId: last.conversationId, upTo: last.id }, last.conversationId);
  }

  /** Marks everything up to a message as read, by default everything that is shown. */
  async markRead(peerId: string, upTo?: Message): Promise<void> {
    const last = upTo ?? this.newest(peerId);
    const before = this.views.get(peerId)?.readUpTo.get(this.user) ?? this.conversations.get(peerId)?.readUpTo;
    if (!last || (before && compareIds(before, last.id) >= 0)) return;
    await this.api.read(peerId, last.id);
    const { conversationId } = last;
    this.applied({ type: "READ", conversationId, userId: this.user, upTo: last.id }, conversationId);
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

  /** The newest message that the service knows for sure: one that was recalled before it was a row may be unknown. */
  private newest(peerId: string): Message | undefined {
    const certain = ({ status, persistStatus }: Message): boolean => status === 1 || persistStatus === "PERSISTED";
    const shown = this.views.get(peerId)?.inOrder().filter(certain).at(-1);
    return shown ?? this.conversations.get(peerId)?.lastMessage ?? undefined;
  }

  private hiddenOf(peerId: string): Hidden {
    const hidden = this.hidden.get(peerId) ?? new Hidden();
    this.hidden.set(peerId, hidden);
    return hidden;
  }

  private viewOf(peerId: string): ConversationView {
    let view = this.views.get(peerId);
    if (!view) {
      view = new ConversationView(this.user, peerId, this.hiddenOf(peerId));
      const known = this.conversations.get(peerId);
      if (known) view.note(known);
      this.views.set(peerId, view);
    }
    return view;
  }

  /** The open copies of a conversation: what is shown, and what is being read anew. */
  private copies(peerId: string): ConversationView[] {
    return [this.views.get(peerId), this.rebuilding.get(peerId)].filter((view) => view !== undefined);
  }

  /** The socket is open: catches up with everything that happened before, and is online then. */
  private async opened(connection: number): Promise<void> {
    const current = (): boolean => connection === this.connection && !this.ended.signal.aborted;
    await this.untilDone(current, () => this.sync());
    if (!current()) return;
    this.online = true;
    this.changed();
    this.resyncLater(current);
  }

  private resyncLater(current: () => boolean): void {
    clearTimeout(this.resyncing);
    const wait = (this.options.resyncMs ?? RESYNC_MS) * (0.9 + Math.random() / 5);
    this.resyncing = setTimeout(() => {
      void this.untilDone(current, () => this.sync()).then(() => {
        if (current()) this.resyncLater(current);
      });
    }, wait);
  }

  /**
   * Reads the newest page of the list, which has the messages that are not rows yet, and from the second time on every conversation with
   * changes since the first page of the time before.
   */
  private async readList(): Promise<void> {
    const asked = ++this.clock;
    const newest = await this.api.conversations({ limit: 100 });
    for (const conversation of newest.conversations) this.noteConversation(conversation, asked);
    if (this.cursor === null) {
      this.cursor = newest.cursor;
      this.older = newest.next;
    } else {
      let changedAfter: string | null = this.cursor;
      // The cursor of the first page counts: what changes while the pages are read comes again.
      let first: string | null = null;
      while (changedAfter !== null) {
        const asked = ++this.clock;
        const page = await this.api.conversations({ changedAfter, limit: 100 });
        for (const conversation of page.conversations) this.noteConversation(conversation, asked);
        first ??= page.cursor;
        changedAfter = page.next;
      }
      this.cursor = first;
    }
    this.changed();
  }

  /** Notes how a conversation stood at a moment after `asked`, by {@link clock}. */
  private noteConversation(conversation: Conversation, asked: number): void {
    const { peerId } = conversation;
    for (const view of this.copies(peerId)) view.note(conversation);
    const known = this.conversations.get(peerId);
    if (known && (this.touched.get(peerId) ?? 0) > asked) {
      // The answer may be older than what is known.
      this.refresh(peerId);
      return;
    }
    this.conversations.set(peerId, this.withoutHidden(conversation));
  }

  /** The list shows no words that are recalled, deleted or cleared, though an answer may be older. */
  private withoutHidden(conversation: Conversation): Conversation {
    const last = conversation.lastMessage;
    return last ? { ...conversation, lastMessage: this.hiddenOf(conversation.peerId).shown(last) } : conversation;
  }

  /** Reads how a conversation stands, soon: the count of unread messages is the service's. One run at a time. */
  private refresh(peerId: string): void {
    const running = this.refreshing.get(peerId);
    if (running) {
      running.again = true;
      return;
    }
    const state = { again: false };
    this.refreshing.set(peerId, state);
    const wanted = (): boolean => !this.ended.signal.aborted;
    const run = async (): Promise<void> => {
      do {
        await pause(REFRESH_AFTER_MS, this.ended.signal);
        state.again = false;
        await this.untilDone(wanted, () => this.readConversation(peerId));
      } while (state.again && wanted());
      this.refreshing.delete(peerId);
    };
    void run();
  }

  private async readConversation(peerId: string): Promise<void> {
    const asked = ++this.clock;
    try {
      const conversation = await this.api.conversation(peerId, { signal: this.ended.signal });
      if ((this.touched.get(peerId) ?? 0) > asked) {
        const state = this.refreshing.get(peerId);
        if (state) state.again = true;
      }
      this.touched.set(peerId, asked);
      this.noteConversation(conversation, asked);
    } catch (error) {
      if (!(error instanceof ApiError) || error.isTransient) throw error;
      // Two users without a message: the conversation is not in the list.
      if (error.status === 404) this.conversations.delete(peerId);
      else if (error.code !== "aborted") this.failed(error);
    }
    this.changed();
  }

  /**
   * Applies all changes that are there; with `page` also reads the newest page, which has the messages that are not rows yet. One run at
   * a time for a conversation.
   */
  private catchUp(peerId: string, page: boolean): Promise<void> {
    const running = this.catching.get(peerId);
    if (running) {
      // The run may have passed the new change already.
      running.again = true;
      running.page ||= page;
      return running.run;
    }
    const state = { run: Promise.resolve(), again: false, page };
    this.catching.set(peerId, state);
    state.run = (async () => {
      try {
        do {
          const withPage = state.page;
          state.again = state.page = false;
          await this.applyChanges(this.viewOf(peerId), withPage);
        } while (state.again && !this.ended.signal.aborted);
      } finally {
        this.catching.delete(peerId);
        this.changed();
      }
    })();
    return state.run.then(() => this.settle(peerId));
  }

  private async applyChanges(view: ConversationView, withPage: boolean): Promise<void> {
    if (view.lastSeq === null) return this.readAnew(view);
    let after = view.lastSeq;
    for (;;) {
      const page = await this.api.changes(view.peerId, after);
      // MySQL has lost a change that it had shown and not acknowledged.
      if (page.lastSeq < after) return this.readAnew(view);
      for (const change of page.changes) this.apply(view.peerId, change);
      if (page.next === null) {
        view.lastSeq = page.lastSeq;
        break;
      }
      after = page.next;
      view.lastSeq = after;
    }
    if (withPage) await this.showPage(view);
  }

  /**
   * Reads a conversation from the start, as far back as it is shown. First the number, then the pages: in the other order the changes
   * between the two are missed. The old copy is shown until the new copy is whole.
   */
  private async readAnew(view: ConversationView): Promise<void> {
    const { peerId } = view;
    const fresh = new ConversationView(this.user, peerId);
    this.rebuilding.set(peerId, fresh);
    try {
      fresh.lastSeq = (await this.api.changes(peerId, NEWEST, 1)).lastSeq;
      const asked = ++this.clock;
      // A number that fell may have taken read positions with it. At first a conversation may be none yet.
      const lost = view.lastSeq !== null;
      const conversation = lost ? await this.conversationIfAny(peerId) : (this.conversations.get(peerId) ?? null);
      const back = view.older;
      do {
        const page = await this.api.messages(peerId, { limit: PAGE, ...(fresh.older ? { before: fresh.older } : {}) });
        for (const message of page.messages) fresh.put(message);
        fresh.older = page.next;
      } while (fresh.older !== null && back !== undefined && (back === null || compareIds(fresh.older, back) > 0));
      this.hidden.set(peerId, fresh.hidden);
      view.become(fresh);
      if (conversation) view.note(conversation);
      if (conversation && lost) this.noteConversation(conversation, asked);
      if (view.messages.size > 0) this.refresh(peerId);
    } catch (error) {
      // Without MySQL there are no numbers; the newest page may be there. It is read again once there are numbers.
      if (view.lastSeq === null && fresh.lastSeq === null) await this.showPage(view);
      throw error;
    } finally {
      this.rebuilding.delete(peerId);
    }
  }

  private async showPage(view: ConversationView): Promise<void> {
    for (const message of (await this.api.messages(view.peerId, { limit: PAGE })).messages) view.put(message);
    this.changed();
  }

  private async conversationIfAny(peerId: string): Promise<Conversation | null> {
    try {
      return await this.api.conversation(peerId);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return null;
      throw error;
    }
  }

  /** Asks again while messages wait for MySQL, less and less often. */
  private settle(peerId: string): void {
    const view = this.views.get(peerId);
    const before = this.settling.get(peerId);
    clearTimeout(before?.timer);
    if (!view?.waits || this.ended.signal.aborted) {
      this.settling.delete(peerId);
      return;
    }
    const wait = Math.min(SETTLE_LONGEST_MS, before ? before.pause * 2 : SETTLE_FIRST_MS);
    const timer = setTimeout(() => {
      const verified = wait >= DOUBT_AFTER_MS ? this.verify(view) : Promise.resolve();
      // After an error the pause grows; an error of the service also shows where somebody waits for an answer.
      verified.then(() => this.catchUp(peerId, false)).catch(() => this.settle(peerId));
    }, wait);
    this.settling.set(peerId, { timer, pause: wait });
  }

  /**
   * Asks for each message that has waited for long. A retried send that the service could not recognise became a second message, which
   * gave way to the first and is 404 from then on.
   */
  private async verify(view: ConversationView): Promise<void> {
    for (const { id } of view.waiting().slice(0, DOUBTS)) await this.readWhole(view.peerId, id);
  }

  /** Reads a message by its id. */
  private async readWhole(peerId: string, id: string): Promise<void> {
    try {
      const message = await this.api.message(id, { signal: this.ended.signal });
      for (const view of this.copies(peerId)) view.put(message);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      for (const view of this.copies(peerId)) view.messages.delete(id);
    }
    this.changed();
  }

  private pushed(push: Push): void {
    if (push.type === "PONG" || push.type === "ERROR") return;
    const conversationId = push.type === "MESSAGE" ? push.data?.conversationId : push.conversationId;
    // A kind of a later version.
    if (typeof conversationId !== "string") return;
    if (push.type === "TYPING") {
      this.typing(peerOf(conversationId, this.user));
      return;
    }
    this.applied(push, conversationId);
  }

  private typing(peerId: string): void {
    this.typingUntil.set(peerId, Date.now() + TYPING_MS);
    setTimeout(() => this.changed(), TYPING_MS + 10);
    this.changed();
  }

  /** Applies what a push or an answer told, and asks how the conversation stands now. */
  private applied(push: Push, conversationId: string): void {
    const peerId = peerOf(conversationId, this.user);
    this.touched.set(peerId, ++this.clock);
    if (push.type === "MESSAGE") this.arrived(peerId, push.data);
    this.apply(peerId, push);
    const known = this.conversations.get(peerId);
    if (known) this.conversations.set(peerId, this.withoutHidden(known));
    if (this.views.has(peerId)) {
      // A new message is soon a row.
      const settling = this.settling.get(peerId);
      if (settling) settling.pause = SETTLE_FIRST_MS / 2;
      this.settle(peerId);
    }
    this.refresh(peerId);
    this.changed();
  }

  /** A push tells of a message: nobody types it any more, and the outbox need not show it. */
  private arrived(peerId: string, message: { fromUserId: string; clientMsgId?: string }): void {
    if (message.fromUserId !== this.user) {
      this.typingUntil.delete(peerId);
    } else if (message.clientMsgId !== undefined && this.unanswered.some((one) => one.clientMsgId === message.clientMsgId)) {
      // The send goes on until its answer: a push is sent before Kafka has the message.
      if (this.views.has(peerId)) this.shownAlready.add(message.clientMsgId);
    }
  }

  /** Applies a change or a push to each copy, and reads a message whose push was too large for its content. */
  private apply(peerId: string, change: Change | Push): void {
    this.hiddenOf(peerId).learn(change);
    const whole = this.copies(peerId).map((view) => view.apply(change));
    if (change.type !== "MESSAGE" || !whole.includes(false)) return;
    const wanted = (): boolean => !this.ended.signal.aborted && !this.copies(peerId).every((view) => view.messages.has(change.data.id));
    void this.untilDone(wanted, () => this.readWhole(peerId, change.data.id));
  }

  /** Sends what waits for this peer, one message after the other, so that their order is kept. */
  private async deliver(peerId: string): Promise<void> {
    if (this.delivering.has(peerId)) return;
    this.delivering.add(peerId);
    try {
      for (;;) {
        const next = this.unanswered.find((one) => one.peerId === peerId && one.state === "sending");
        if (!next || this.ended.signal.aborted) return;
        await this.untilDone(() => this.unanswered.includes(next) && !this.ended.signal.aborted, () => this.sendOnce(next));
      }
    } finally {
      this.delivering.delete(peerId);
    }
  }

  private async sendOnce(outgoing: Outgoing): Promise<void> {
    const { peerId, content, msgType, clientMsgId } = outgoing;
    try {
      const draft = { toId: peerId, content, msgType, clientMsgId };
      const message = await this.api.send(draft, { signal: this.ended.signal, retries: 0 });
      this.viewOf(peerId);
      this.takeOut(outgoing);
      this.applied({ type: "MESSAGE", data: message }, message.conversationId);
    } catch (error) {
      if (!(error instanceof ApiError) || error.isTransient || error.code === "aborted") throw error;
      outgoing.state = "failed";
      outgoing.error = { code: error.code, detail: error.message };
      this.shownAlready.delete(clientMsgId);
      this.saveOutbox();
      this.changed();
    }
  }

  private takeOut(outgoing: Outgoing): void {
    const place = this.unanswered.indexOf(outgoing);
    if (place >= 0) this.unanswered.splice(place, 1);
    this.shownAlready.delete(outgoing.clientMsgId);
    this.saveOutbox();
    this.changed();
  }

  private saveOutbox(): void {
    const { outbox } = this.options;
    if (!outbox) return;
    // A storage may be full or forbidden, by an error at once or later.
    Promise.resolve()
      .then(() => outbox.save([...this.unanswered]))
      .catch((error: unknown) => this.failed(error));
  }

  private async stored(): Promise<Outgoing[]> {
    try {
      return (await this.options.outbox?.load()) ?? [];
    } catch (error) {
      this.failed(error);
      return [];
    }
  }

  private failed(error: unknown): void {
    (this.options.onError ?? console.warn)(error);
  }

  /** Repeats `work` until it succeeds or nobody `wants` it, with growing random pauses, or as the service asks. */
  private async untilDone(wanted: () => boolean, work: () => Promise<void>): Promise<void> {
    for (let tried = 0; wanted(); tried++) {
      try {
        await work();
        return;
      } catch (error) {
        // A fault of this program is told, and not only repeated.
        if (!(error instanceof ApiError)) this.failed(error);
        await pause(pauseAfter(error, tried), this.ended.signal);
      }
    }
  }

  private changed(): void {
    if (this.told) return;
    this.told = true;
    queueMicrotask(() => {
      this.told = false;
      for (const listener of this.listeners) {
        try {
          listener();
        } catch (error) {
          this.failed(error);
        }
      }
    });
  }
}

/** A new random name of a message. The ready-made random UUIDs of browsers are missing on pages without TLS. */
function newName(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
