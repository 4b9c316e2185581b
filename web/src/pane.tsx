/** One user: the list of conversations and the open one. */
import { HongyanClient } from "@hongyan/client";
import type { Conversation, Outgoing } from "@hongyan/client";
import { useEffect, useMemo, useReducer, useState } from "preact/hooks";
import { Thread } from "./thread.js";
import { fetchToken } from "./tokens.js";
import { Ways } from "./way.js";
import { fill } from "./words.js";
import type { Language, Words } from "./words.js";

interface PaneProps {
  user: string;
  words: Words;
  lang: Language;
  /** The user of the other pane, if there is one. */
  partner: string | undefined;
}

/** The client of a user with the ways of its messages, and a new rendering whenever its copy changes. */
function useClient(user: string): { client: HongyanClient; ways: Ways } {
  const [, again] = useReducer((count: number) => count + 1, 0);
  const { client, ways } = useMemo(() => {
    const name = `outbox ${user}`;
    const ways = new Ways();
    const client = new HongyanClient({
      baseUrl: location.origin,
      user,
      fetch: ways.fetch,
      token: ({ renew }) => fetchToken(user, renew),
      outbox: {
        load: () => JSON.parse(localStorage.getItem(name) ?? "[]") as Outgoing[],
        save: (outbox) => localStorage.setItem(name, JSON.stringify(outbox)),
      },
    });
    return { client, ways };
  }, [user]);
  useEffect(() => {
    const unsubscribe = client.subscribe(() => again(undefined));
    const hurry = () => client.hurry();
    addEventListener("online", hurry);
    void client.start();
    return () => {
      removeEventListener("online", hurry);
      unsubscribe();
      client.stop();
    };
  }, [client]);
  return { client, ways };
}

export function Pane({ user, words, lang, partner }: PaneProps) {
  const { client, ways } = useClient(user);
  const [peerId, setPeerId] = useState<string | null>(partner ?? null);
  const [everOnline, setEverOnline] = useState(false);
  useEffect(() => {
    if (client.online) setEverOnline(true);
  }, [client.online]);
  return (
    <section class={`pane ${peerId ? "has-thread" : ""}`} aria-label={`${words.user} ${user}`} data-user={user} data-online={client.online}>
      <div class="me">
        <Avatar id={user} />
        <strong>
          {words.user} {user}
        </strong>
        <span class={`dot ${client.online ? "on" : ""}`} aria-hidden="true" />
      </div>
      {!client.online && (
        <p class="offline" role="status">
          {everOnline ? words.offline : words.connecting}
        </p>
      )}
      <div class="halves">
        <List client={client} words={words} lang={lang} chosen={peerId} choose={setPeerId} />
        {peerId ? (
          <Thread key={peerId} client={client} ways={ways} peerId={peerId} words={words} lang={lang} back={() => setPeerId(null)} />
        ) : (
          <div class="thread nothing">{words.choose}</div>
        )}
      </div>
    </section>
  );
}

interface ListProps {
  client: HongyanClient;
  words: Words;
  lang: Language;
  chosen: string | null;
  choose(peerId: string): void;
}

function List({ client, words, lang, chosen, choose }: ListProps) {
  const [wanted, setWanted] = useState("");
  const open = (event: Event) => {
    event.preventDefault();
    if (/^[1-9][0-9]{0,18}$/.test(wanted) && wanted !== client.user) {
      choose(wanted);
      setWanted("");
    }
  };
  const conversations = client.list();
  return (
    <nav class="list" aria-label={words.conversations}>
      <form class="new" onSubmit={open}>
        <input
          aria-label={words.newChat}
          placeholder={words.newChat}
          inputMode="numeric"
          autocomplete="off"
          value={wanted}
          onInput={(event) => setWanted(event.currentTarget.value.trim())}
        />
        <button disabled={!wanted}>{words.open}</button>
      </form>
      {conversations.length === 0 && <p class="hint">{words.none}</p>}
      <ul>
        {conversations.map((conversation) => (
          <li key={conversation.peerId}>
            <button
              class="row"
              aria-current={conversation.peerId === chosen ? "true" : undefined}
              onClick={() => choose(conversation.peerId)}
            >
              <Avatar id={conversation.peerId} />
              <span class="who">
                <strong>
                  {words.user} {conversation.peerId}
                </strong>
                <span class="last">{lastLine(client, conversation, words)}</span>
              </span>
              <span class="side">
                <time>{clock(conversation.lastActivity, lang)}</time>
                {conversation.unread > 0 && (
                  <span class="badge" aria-label={fill(words.unread, { n: conversation.unread })}>
                    {conversation.unread > 99 ? "99+" : conversation.unread}
                  </span>
                )}
              </span>
            </button>
          </li>
        ))}
      </ul>
      {client.hasOlderConversations && (
        <button class="quiet" onClick={() => void client.olderConversations().catch(() => undefined)}>
          {words.older}
        </button>
      )}
    </nav>
  );
}

function lastLine(client: HongyanClient, conversation: Conversation, words: Words): string {
  if (client.isTyping(conversation.peerId)) return words.typing;
  const last = conversation.lastMessage;
  if (!last) return "";
  const mine = last.fromUserId === client.user;
  if (last.status === 0) return mine ? words.recalledMine : words.recalledTheirs;
  return mine ? `${words.you}: ${last.content}` : last.content;
}

/** A time of today as a clock, an older one as a date. */
export function clock(ms: number, lang: Language): string {
  const time = new Date(ms);
  const locale = lang === "zh" ? "zh-CN" : "en-GB";
  return time.toDateString() === new Date().toDateString()
    ? time.toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit" })
    : time.toLocaleDateString(locale, { day: "numeric", month: "short" });
}

/** A colour and the last two digits of a user's number. */
export function Avatar({ id }: { id: string }) {
  const hue = [...id].reduce((sum, digit) => (sum * 31 + digit.charCodeAt(0)) % 8, 5);
  return (
    <span class={`avatar hue-${hue}`} aria-hidden="true">
      {id.slice(-2)}
    </span>
  );
}
