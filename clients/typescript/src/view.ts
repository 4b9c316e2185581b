/**
 * The copy of one conversation. Everything that tells of the conversation is applied here: pages, changes, pushes and answers,
 * in any order and any number of times. The copy ends with the true view, and words that are recalled, deleted or cleared never come
 * back (`docs/clients.md`).
 */
import { compareIds } from "./types.js";
import type { Change, Conversation, Message, Push, PushedMessage } from "./types.js";

/** The messages of a conversation whose words must not be shown, known or not yet known here. */
export class Hidden {
  /** The recall times by message id, ms. */
  readonly recalled = new Map<string, number>();
  /** Messages that the user deleted. */
  readonly deleted = new Set<string>();
  /** Every message up to this id is cleared. */
  clearedUpTo = "0";

  /** Learns from a change or a push. */
  learn(change: Change | Push): void {
    if (change.type === "MESSAGE_RECALLED") {
      if (!this.recalled.has(change.messageId)) this.recalled.set(change.messageId, change.recallTime);
    } else if (change.type === "MESSAGE_DELETED") {
      this.deleted.add(change.messageId);
    } else if (change.type === "CONVERSATION_CLEARED") {
      if (compareIds(change.upTo, this.clearedUpTo) > 0) this.clearedUpTo = change.upTo;
    }
  }

  /** The message as it may be shown; null if not at all. */
  shown<M extends Message | PushedMessage>(message: M): M | null {
    if (this.deleted.has(message.id) || compareIds(message.id, this.clearedUpTo) <= 0) return null;
    if (message.status === 0) {
      if (!this.recalled.has(message.id)) this.recalled.set(message.id, message.recallTime ?? 0);
      return message;
    }
    const recallTime = this.recalled.get(message.id);
    return recallTime === undefined ? message : { ...message, content: "", status: 0, recallTime };
  }
}

/** The copy of one conversation. */
export class ConversationView {
  /** The messages by id; a recalled one has `status` 0 and no content. */
  messages = new Map<string, Message>();
  /** All changes up to this number are applied; null while the copy has no page yet. */
  lastSeq: number | null = null;
  /** The `before` of the next older page; null at the beginning of the history, undefined if no page was read. */
  older: string | null | undefined = undefined;
  /** How far each user has read, by user id. */
  readUpTo = new Map<string, string>();
  /** Counts how often the copy was read anew. An answer to a question of an earlier copy does not fit. */
  generation = 0;

  constructor(
    /** The user whose view this is. */
    readonly user: string,
    /** The other user. */
    readonly peerId: string,
    /** The messages that must not be shown. */
    public hidden = new Hidden(),
  ) {}

  /** The messages without a gap, oldest first. A message that lies beyond the pages read is shown with its page. */
  inOrder(): Message[] {
    const { older } = this;
    const all = [...this.messages.values()];
    const whole = typeof older === "string" ? all.filter(({ id }) => compareIds(id, older) >= 0) : all;
    return whole.sort((a, b) => compareIds(a.id, b.id));
  }

  /** The messages that MySQL does not have yet: their change is still to come. */
  waiting(): Message[] {
    return [...this.messages.values()].filter(({ persistStatus, status }) => persistStatus === "PENDING" && status === 1);
  }

  /** True if a message waits for MySQL. */
  get waits(): boolean {
    return this.waiting().length > 0;
  }

  /** Applies a message of a page, a change, an answer or a push. Returns false if its content must be read by its id. */
  put(message: Message | PushedMessage): boolean {
    const { truncated: _, ...given } = message as PushedMessage;
    const shown = this.hidden.shown(given);
    if (!shown) {
      this.messages.delete(message.id);
      return true;
    }
    const known = this.messages.get(message.id);
    const content = shown.content ?? known?.content;
    if (content === undefined) return false;
    // A push may be older than a change that was applied: a message that is persisted or has a number stays so.
    const persisted = known?.persistStatus === "PERSISTED" || shown.persistStatus === "PERSISTED";
    const clientMsgId = shown.clientMsgId ?? known?.clientMsgId;
    this.messages.set(message.id, {
      ...shown,
      content: shown.status === 0 ? "" : content,
      ...(clientMsgId === undefined ? {} : { clientMsgId }),
      seq: shown.seq ?? known?.seq ?? null,
      persistStatus: persisted ? "PERSISTED" : shown.persistStatus,
    });
    return true;
  }

  /** Applies a change, or a push that has the same fields. Returns false if a message's content must be read by its id. */
  apply(change: Change | Push): boolean {
    this.hidden.learn(change);
    switch (change.type) {
      case "MESSAGE":
        return this.put(change.data);
      case "MESSAGE_RECALLED": {
        const known = this.messages.get(change.messageId);
        if (known) this.put(known);
        return true;
      }
      case "MESSAGE_DELETED":
        this.messages.delete(change.messageId);
        return true;
      case "CONVERSATION_CLEARED":
        for (const id of this.messages.keys()) {
          if (compareIds(id, change.upTo) <= 0) this.messages.delete(id);
        }
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

  /**
   * Becomes a copy that was read anew. Messages that wait for MySQL are kept: an accepted message may for a moment be in Kafka alone,
   * where no page sees the message.
   */
  become(fresh: ConversationView): void {
    const waiting = this.waiting();
    this.hidden = fresh.hidden;
    this.messages = fresh.messages;
    this.lastSeq = fresh.lastSeq;
    this.older = fresh.older;
    this.readUpTo = fresh.readUpTo;
    this.generation += 1;
    for (const message of waiting) {
      if (!this.messages.has(message.id)) this.put(message);
    }
  }

  private read(user: string, upTo: string): void {
    const before = this.readUpTo.get(user);
    if (before === undefined || compareIds(before, upTo) < 0) this.readUpTo.set(user, upTo);
  }
}
