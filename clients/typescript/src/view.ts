/**
 * The local copy of one conversation. Everything that tells of the conversation is applied here: pages, changes, pushes and answers,
 * in any order and any number of times. The copy ends with the true view, and words that are recalled, deleted or cleared never come
 * back (`docs/clients.md`).
 */
import { compareIds } from "./types.js";
import type { Change, Conversation, Message, Push, PushedMessage } from "./types.js";

/** A message of one's own that the server has not accepted yet. */
export interface Outgoing {
  clientMsgId: string;
  peerId: string;
  content: string;
  msgType: number;
  /** When it was written, ms since 1970 UTC. */
  writtenAt: number;
  /** `failed`: the server refused it for good. */
  state: "sending" | "failed";
  /** Why the server refused it. */
  error?: { code: string; detail: string };
}

/** The copy of one conversation. */
export class ConversationView {
  /** The messages by id; a recalled one has `status` 0 and no content. */
  readonly messages = new Map<string, Message>();
  /** All changes up to this number are applied; null while the conversation is not followed. */
  lastSeq: number | null = null;
  /** The `before` of the next older page; null at the beginning of the history, undefined if no page was read. */
  older: string | null | undefined = undefined;
  /** How far each user has read, by user id. */
  readonly readUpTo = new Map<string, string>();

  private readonly recalled = new Map<string, number>();
  private readonly gone = new Set<string>();
  private clearedUpTo = "0";

  constructor(
    /** The user whose view this is. */
    readonly user: string,
    /** The other user. */
    readonly peerId: string,
  ) {}

  /** The messages, oldest first. */
  inOrder(): Message[] {
    return [...this.messages.values()].sort((a, b) => compareIds(a.id, b.id));
  }

  /** True if a message waits for its number, so that its change is still to come. */
  get waits(): boolean {
    for (const message of this.messages.values()) {
      if (message.seq === null && message.status === 1) return true;
    }
    return false;
  }

  /** Forgets everything but what must never be shown again. */
  startAnew(): void {
    this.messages.clear();
    this.lastSeq = null;
    this.older = undefined;
    // A deletion or a recall that MySQL has lost is shown again, so nothing is remembered of them either.
    this.recalled.clear();
    this.gone.clear();
    this.clearedUpTo = "0";
  }

  /** Applies a message of a page, a change, an answer or a push. Returns false if its content must be read by its id. */
  put(message: Message | PushedMessage): boolean {
    if (this.gone.has(message.id) || compareIds(message.id, this.clearedUpTo) <= 0) return true;
    const known = this.messages.get(message.id);
    // A push may be older than a change that was applied: a message that is persisted stays so.
    const persisted = known?.persistStatus === "PERSISTED" || message.persistStatus === "PERSISTED";
    const { truncated: _, ...rest } = message as PushedMessage;
    const clientMsgId = rest.clientMsgId ?? known?.clientMsgId;
    const lasting = {
      ...rest,
      ...(clientMsgId === undefined ? {} : { clientMsgId }),
      seq: rest.seq ?? known?.seq ?? null,
      persistStatus: persisted ? ("PERSISTED" as const) : rest.persistStatus,
    };
    const recallTime = this.recalled.get(message.id) ?? (message.status === 0 ? (message.recallTime ?? 0) : undefined);
    if (recallTime !== undefined) {
      this.recalled.set(message.id, recallTime);
      this.messages.set(message.id, { ...lasting, content: "", status: 0, recallTime });
    } else if (message.content !== null) {
      this.messages.set(message.id, { ...lasting, content: message.content });
    } else {
      return known !== undefined;
    }
    return true;
  }

  /** Applies a change or a push that has the same fields. */
  apply(change: Change | Push): boolean {
    switch (change.type) {
      case "MESSAGE":
        return this.put(change.data);
      case "MESSAGE_RECALLED":
        this.recall(change.messageId, change.recallTime);
        return true;
      case "MESSAGE_DELETED":
        this.gone.add(change.messageId);
        this.messages.delete(change.messageId);
        return true;
      case "CONVERSATION_CLEARED":
        this.clear(change.upTo);
        return true;
      case "READ":
        this.read(change.userId, change.upTo);
        return true;
      // A kind of a later version.
      default:
        return true;
    }
  }

  /** Notes the read positions of the list. */
  note(conversation: Conversation): void {
    if (conversation.readUpTo) this.read(this.user, conversation.readUpTo);
    if (conversation.peerReadUpTo) this.read(this.peerId, conversation.peerReadUpTo);
  }

  /** A message is recalled, whether it is here already or comes later. */
  recall(id: string, recallTime: number): void {
    this.recalled.set(id, recallTime);
    const known = this.messages.get(id);
    if (known) this.messages.set(id, { ...known, content: "", status: 0, recallTime });
  }

  private read(user: string, upTo: string): void {
    const before = this.readUpTo.get(user);
    if (before === undefined || compareIds(before, upTo) < 0) this.readUpTo.set(user, upTo);
  }

  private clear(upTo: string): void {
    if (compareIds(upTo, this.clearedUpTo) <= 0) return;
    this.clearedUpTo = upTo;
    for (const id of this.messages.keys()) {
      if (compareIds(id, upTo) <= 0) this.messages.delete(id);
    }
  }
}
