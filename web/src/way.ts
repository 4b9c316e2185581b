/** The way of the messages that this page has sent, as the server tells it and as the page sees it. */

/** The known times of one message, in ms. A step without a time is not known to be done. */
export interface Way {
  /** When the message was written, since 1970 UTC. */
  writtenAt: number;
  /** How long Redis and Kafka took, as the server says in `Server-Timing`: only what has acknowledged the message. */
  redisMs?: number;
  kafkaMs?: number;
  /** True while the server takes no more messages of the user, who has sent too many (429). */
  tooFast?: boolean;
  /** The time from the writing to the first sight of the accepted message. */
  acceptedMs?: number;
  /** The time from the writing to the first sight of the message in MySQL. */
  mysqlMs?: number;
}

/** The milliseconds of one store in `Server-Timing`. */
function took(timing: string, store: string): number | undefined {
  const found = new RegExp(`\\b${store};dur=([\\d.]+)`).exec(timing);
  return found ? Number(found[1]) : undefined;
}

/** The ways of one user's messages, by `clientMsgId`. */
export class Ways {
  private readonly ways = new Map<string, Way>();

  /** Calls the server, and notes what the answer to a send says of the stores. */
  readonly fetch: typeof fetch = async (input, init) => {
    const answer = await fetch(input, init);
    const sent = typeof init?.body === "string" ? (JSON.parse(init.body) as { clientMsgId?: string }) : {};
    const way = this.of(sent);
    if (way) {
      way.tooFast = answer.status === 429;
      const timing = answer.headers.get("server-timing") ?? "";
      const [redisMs, kafkaMs] = [took(timing, "redis"), took(timing, "kafka")];
      if (redisMs !== undefined) way.redisMs = redisMs;
      if (kafkaMs !== undefined) way.kafkaMs = kafkaMs;
    }
    return answer;
  };

  /** A message was written. */
  begin(clientMsgId: string, writtenAt: number): void {
    if (!this.ways.has(clientMsgId)) this.ways.set(clientMsgId, { writtenAt });
  }

  /** The page sees the message in an answer, a push or a page. */
  see(message: { clientMsgId?: string; persistStatus: string }): void {
    const way = this.of(message);
    if (!way) return;
    way.acceptedMs ??= Date.now() - way.writtenAt;
    if (message.persistStatus === "PERSISTED") way.mysqlMs ??= Date.now() - way.writtenAt;
  }

  /** The way of a message, if this page has sent it. */
  of(message: { clientMsgId?: string }): Way | undefined {
    return message.clientMsgId === undefined ? undefined : this.ways.get(message.clientMsgId);
  }
}
