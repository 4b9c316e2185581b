/** Messages that the service has not answered yet. */

/** A message of one's own that the service has not accepted yet. */
export interface Outgoing {
  clientMsgId: string;
  peerId: string;
  content: string;
  msgType: number;
  /** When it was written, ms since 1970 UTC. */
  writtenAt: number;
  /** `failed`: the service refused it for good. */
  state: "sending" | "failed";
  /** Why the service refused it. */
  error?: { code: string; detail: string };
}

/** Keeps messages that are not accepted yet, so that they outlive the page. Two pages may share one: a message sent twice is one message. */
export interface OutboxStorage {
  load(): Outgoing[] | Promise<Outgoing[]>;
  save(outbox: readonly Outgoing[]): void | Promise<void>;
}
