/** One conversation. */
import { ApiError, compareIds } from "@hongyan/client";
import type { ConversationView, HongyanClient, Message, Outgoing } from "@hongyan/client";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Avatar, clock } from "./pane.js";
import type { Way, Ways } from "./way.js";
import { fill } from "./words.js";
import type { Language, Words } from "./words.js";

/** How long a message may be taken back, ms (`IM_RECALL_LIMIT_SECONDS` of the server; its answer decides). */
const RECALL_WITHIN_MS = 300_000;

interface ThreadProps {
  client: HongyanClient;
  ways: Ways;
  peerId: string;
  words: Words;
  lang: Language;
  back(): void;
}

export function Thread({ client, ways, peerId, words, lang, back }: ThreadProps) {
  const [view, setView] = useState<ConversationView | null>(null);
  const [text, setText] = useState("");
  const [fault, setFault] = useState("");
  const [blocked, setBlocked] = useState(false);
  const [now, setNow] = useState(Date.now);
  const scroller = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const before = useRef<{ height: number; top: number } | null>(null);

  const attempt = (work: Promise<unknown>) => {
    setFault("");
    work.catch((error: unknown) => setFault(fill(words.error, { why: error instanceof ApiError ? error.message : String(error) })));
  };

  useEffect(() => {
    let ended = false;
    // After a fault the next connection of the client catches up, and the view fills then.
    client.open(peerId).then(
      (opened) => ended || setView(opened),
      () => ended || setView(client.views.get(peerId) ?? null),
    );
    client.api.blocks().then(
      (users) => ended || setBlocked(users.includes(peerId)),
      () => undefined,
    );
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, [client, peerId]);

  const messages = view?.inOrder() ?? [];
  const outgoing = client.outbox.filter((one) => one.peerId === peerId);
  const newest = messages.at(-1)?.id;

  for (const one of outgoing) ways.begin(one.clientMsgId, one.writtenAt);
  for (const message of messages) ways.see(message);

  // A message that is shown to a person who looks is read.
  useEffect(() => {
    if (!newest || !view) return undefined;
    const read = () => {
      if (!document.hidden) client.markRead(peerId).catch(() => undefined);
    };
    read();
    document.addEventListener("visibilitychange", read);
    return () => document.removeEventListener("visibilitychange", read);
  }, [client, peerId, newest, client.online, view]);

  // After each rendering, since a message grows a line when its way becomes known.
  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) return;
    if (before.current) {
      // Older messages came in above: the rows in sight stay in sight.
      element.scrollTop = before.current.top + element.scrollHeight - before.current.height;
      before.current = null;
    } else if (atEnd.current) {
      element.scrollTop = element.scrollHeight;
    }
  });

  const older = () => {
    const element = scroller.current;
    if (!element || !view || view.older === null) return;
    attempt(
      client.loadOlder(peerId).then(() => {
        before.current = { height: element.scrollHeight, top: element.scrollTop };
      }),
    );
  };

  const submit = (event: Event) => {
    event.preventDefault();
    const content = text.trim();
    if (!content) return;
    atEnd.current = true;
    client.send(peerId, content);
    setText("");
  };

  const peerReadUpTo = view?.readUpTo.get(peerId);
  return (
    <div class="thread">
      <header class="with">
        <button class="back" onClick={back} aria-label={words.back}>
          ‹
        </button>
        <Avatar id={peerId} />
        <span class="who">
          <strong>
            {words.user} {peerId}
          </strong>
          <span class="last" role="status">
            {client.isTyping(peerId) ? words.typing : ""}
          </span>
        </span>
        <button
          class="quiet"
          onClick={() =>
            attempt((blocked ? client.api.unblock(peerId) : client.api.block(peerId)).then(() => setBlocked(!blocked)))
          }
        >
          {blocked ? words.unblock : words.block}
        </button>
        <button class="quiet" disabled={messages.length === 0} onClick={() => confirm(words.clearAsk) && attempt(client.clear(peerId))}>
          {words.clear}
        </button>
      </header>
      <div
        class="messages"
        ref={scroller}
        tabIndex={0}
        role="log"
        aria-label={`${words.user} ${peerId}`}
        onScroll={(event) => {
          const element = event.currentTarget;
          atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
        }}
      >
        {view && messages.length + outgoing.length === 0 && <p class="hint">{words.empty}</p>}
        {view && typeof view.older === "string" && (
          <button class="quiet older" onClick={older}>
            {words.older}
          </button>
        )}
        {view && view.older === null && messages.length > 0 && <p class="hint">{words.beginning}</p>}
        {messages.flatMap((message, place) => [
          isNewDay(message, messages[place - 1]) && (
            <p key={`day ${message.id}`} class="day">
              {day(message.sendTime, lang, words)}
            </p>
          ),
          <Row
            key={message.id}
            message={message}
            mine={message.fromUserId === client.user}
            follows={messages[place - 1]?.fromUserId === message.fromUserId}
            read={peerReadUpTo !== undefined && compareIds(message.id, peerReadUpTo) <= 0}
            way={ways.of(message)}
            recallLeftMs={message.sendTime + RECALL_WITHIN_MS - now}
            words={words}
            lang={lang}
            recall={() => attempt(client.recall(message))}
            remove={() => attempt(client.delete(message))}
          />,
        ])}
        {outgoing.map((one) => (
          <Waiting
            key={one.clientMsgId}
            outgoing={one}
            tooFast={ways.of(one)?.tooFast === true}
            words={words}
            retry={() => client.retry(one)}
            discard={() => client.discard(one)}
          />
        ))}
      </div>
      <p class="fault" role="alert">
        {fault}
      </p>
      <form class="composer" onSubmit={submit}>
        <textarea
          rows={1}
          aria-label={words.write}
          placeholder={words.write}
          value={text}
          onInput={(event) => {
            setText(event.currentTarget.value);
            if (event.currentTarget.value) client.tellTyping(peerId);
          }}
          onKeyDown={(event) => {
            // A key that only ends the choice of a Chinese word sends nothing.
            if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
          }}
        />
        <button class="primary" disabled={!text.trim()}>
          {words.send}
        </button>
      </form>
    </div>
  );
}

interface RowProps {
  message: Message;
  mine: boolean;
  follows: boolean;
  read: boolean;
  way: Way | undefined;
  recallLeftMs: number;
  words: Words;
  lang: Language;
  recall(): void;
  remove(): void;
}

function Row({ message, mine, follows, read, way, recallLeftMs, words, lang, recall, remove }: RowProps) {
  const [open, setOpen] = useState(false);
  const options = useRef<HTMLButtonElement>(null);
  if (message.status === 0) {
    return (
      <p class="recalled" data-id={message.id}>
        {mine ? words.recalledMine : words.recalledTheirs}
      </p>
    );
  }
  const stored = message.persistStatus === "PERSISTED";
  const state = read ? words.read : stored ? words.stored : words.sent;
  const close = (work: () => void) => () => {
    setOpen(false);
    work();
  };
  /** Closes the menu by the keyboard: the focus goes back to the button that opened the menu. */
  const leave = (event: KeyboardEvent) => {
    if (event.key !== "Escape") return;
    setOpen(false);
    options.current?.focus();
  };
  return (
    <article
      class={`message ${mine ? "mine" : "theirs"} ${follows ? "follows" : ""}`}
      data-id={message.id}
      onKeyDown={leave}
      onFocusOut={(event) => {
        // Another place has the focus now, so nobody chooses here.
        const next = event.relatedTarget;
        if (next instanceof Node && !event.currentTarget.contains(next)) setOpen(false);
      }}
    >
      <div class="bubble">
        <span class="content">{message.content}</span>
        <span class="meta">
          <time dateTime={new Date(message.sendTime).toISOString()}>{clock(message.sendTime, lang)}</time>
          {mine && (
            <span class={`ticks ${read ? "is-read" : ""}`} role="img" aria-label={state} title={state}>
              {stored || read ? "✓✓" : "✓"}
            </span>
          )}
        </span>
      </div>
      <button ref={options} class="options" aria-expanded={open} aria-label={words.more} onClick={() => setOpen(!open)}>
        ⋯
      </button>
      {open && (
        <div class="menu" role="group" aria-label={words.more}>
          {mine && recallLeftMs > 0 && (
            <button onClick={close(recall)}>{fill(words.recallLeft, { s: minutes(recallLeftMs) })}</button>
          )}
          <button onClick={close(remove)}>{words.remove}</button>
        </div>
      )}
      {way && <WayLine way={way} words={words} />}
    </article>
  );
}

/** The steps of a message. A step is shown as done if the server has said so or the page has seen it. */
function WayLine({ way, words }: { way: Way; words: Words }) {
  const server = (ms: number) => `${ms.toFixed(1)} ms`;
  const steps: [string, string | undefined, string][] = [];
  if (way.redisMs === undefined && way.kafkaMs === undefined) {
    // A push, or a repeated send: nobody has said which stores took the message.
    steps.push([words.wayAccepted, way.acceptedMs === undefined ? undefined : `${way.acceptedMs} ms`, words.wayAcceptedHint]);
  } else {
    steps.push([words.wayRedis, way.redisMs === undefined ? undefined : server(way.redisMs), words.wayServerHint]);
    steps.push([words.wayKafka, way.kafkaMs === undefined ? undefined : server(way.kafkaMs), words.wayServerHint]);
  }
  steps.push([words.wayMysql, way.mysqlMs === undefined ? undefined : `≤ ${way.mysqlMs} ms`, words.wayMysqlHint]);
  return (
    <ol class="way" aria-label={words.way}>
      {steps.map(([name, ms, hint]) => (
        <li key={name} class={ms === undefined ? "" : "done"} title={hint}>
          {name} {ms ?? "…"}
        </li>
      ))}
    </ol>
  );
}

/** True if the message is the first of its day. */
function isNewDay(message: Message, before: Message | undefined): boolean {
  return before === undefined || new Date(before.sendTime).toDateString() !== new Date(message.sendTime).toDateString();
}

/** The day of a time, by name if it is near. */
function day(ms: number, lang: Language, words: Words): string {
  const date = new Date(ms);
  const yesterday = new Date();
  yesterday.setDate(yesterday.getDate() - 1);
  if (date.toDateString() === new Date().toDateString()) return words.today;
  if (date.toDateString() === yesterday.toDateString()) return words.yesterday;
  return date.toLocaleDateString(lang === "zh" ? "zh-CN" : "en-GB", { weekday: "short", day: "numeric", month: "long", year: "numeric" });
}

interface WaitingProps {
  outgoing: Outgoing;
  tooFast: boolean;
  words: Words;
  retry(): void;
  discard(): void;
}

/** A message that the server has not accepted. */
function Waiting({ outgoing, tooFast, words, retry, discard }: WaitingProps) {
  const failed = outgoing.state === "failed";
  const why = outgoing.error?.code === "blocked" ? words.blocked : outgoing.error?.detail;
  return (
    <article class={`message mine waiting ${failed ? "failed" : ""}`}>
      <div class="bubble">
        <span class="content">{outgoing.content}</span>
        <span class="meta">{failed ? words.failed : tooFast ? words.rateLimited : words.sending}</span>
      </div>
      {failed && (
        <p class="why">
          {why}{" "}
          <button class="quiet" onClick={retry}>
            {words.again}
          </button>
          <button class="quiet" onClick={discard}>
            {words.discard}
          </button>
        </p>
      )}
    </article>
  );
}

function minutes(ms: number): string {
  const seconds = Math.ceil(ms / 1_000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
