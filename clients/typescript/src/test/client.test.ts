/** The client: what it asks the service for, and what it does with answers that are late, lower or missing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HongyanClient } from "../index.js";
import type { ClientOptions, Conversation, Message, Outgoing, SocketLike } from "../index.js";

function message(id: number, more: Partial<Message> = {}): Message {
  return {
    id: String(id),
    conversationId: "1_2",
    fromUserId: "2",
    toId: "1",
    content: `words ${id}`,
    msgType: 1,
    chatType: 1,
    sendTime: 1_796_000_000_000 + id,
    status: 1,
    recallTime: null,
    persistStatus: "PERSISTED",
    seq: id,
    ...more,
  };
}

function conversation(more: Partial<Conversation> = {}): Conversation {
  return {
    conversationId: "1_2",
    peerId: "2",
    lastMessage: null,
    lastSeq: 0,
    unread: 0,
    readUpTo: null,
    peerReadUpTo: null,
    lastActivity: 1_796_000_000_000,
    ...more,
  };
}

const NEWEST = "GET /conversations/2/changes?after=9223372036854775807&limit=1";
const PAGE = "GET /conversations/2/messages?limit=30";
const ONE = "GET /conversations/2";

type Answer = unknown | (() => unknown);

/** A client whose questions are answered from `answers`, by method and path; those that are missing are 404. */
function client(answers: Record<string, Answer>, options: Partial<ClientOptions> = {}) {
  const asked: string[] = [];
  const sockets: SocketLike[] = [];
  const made = new HongyanClient({
    baseUrl: "http://127.0.0.1:1",
    user: "1",
    token: () => "token",
    retries: 0,
    WebSocket: class implements SocketLike {
      readyState = 1;
      onopen: SocketLike["onopen"] = null;
      onmessage: SocketLike["onmessage"] = null;
      onclose: SocketLike["onclose"] = null;
      onerror: SocketLike["onerror"] = null;
      constructor() {
        sockets.push(this);
      }
      send(): void {}
      close(): void {}
    },
    fetch: async (url, init) => {
      const { pathname, search } = url as URL;
      const question = `${init?.method} ${pathname}${search}`;
      asked.push(question);
      const found = answers[question];
      const answer = await (typeof found === "function" ? (found as () => unknown)() : found);
      if (answer instanceof Response) return answer;
      if (answer === undefined) return Response.json({ code: "not_found", detail: question }, { status: 404 });
      return Response.json(answer);
    },
    ...options,
  });
  return { made, asked, sockets };
}

function hears(socket: SocketLike | undefined, push: object): void {
  assert.ok(socket?.onmessage);
  socket.onmessage({ data: JSON.stringify(push) } as never);
}

/** Starts the client, and waits until it has a socket. */
async function started(made: HongyanClient, sockets: SocketLike[]): Promise<void> {
  await made.start();
  while (!sockets[0]?.onmessage) await Promise.resolve();
}

/** Resolves when the client has changed so that the condition holds. */
async function until(made: HongyanClient, holds: () => boolean): Promise<void> {
  if (holds()) return;
  await new Promise<void>((resolve) => {
    const stop = made.subscribe(() => {
      if (!holds()) return;
      stop();
      resolve();
    });
  });
}

const ids = (made: HongyanClient): string[] | undefined => made.views.get("2")?.inOrder().map(({ id }) => id);

test("the number is asked before the page, and a push in between is kept", async () => {
  const { made, asked, sockets } = client({
    "GET /conversations?limit=100": { conversations: [], next: null, cursor: "1" },
    [NEWEST]: { changes: [], next: null, lastSeq: 7 },
    [ONE]: conversation(),
    [PAGE]: () => {
      const push = { type: "MESSAGE", data: message(9, { persistStatus: "PENDING", seq: null }) };
      hears(sockets[0], push);
      return { messages: [message(7), message(6)], next: "6" };
    },
  });
  await started(made, sockets);
  const view = await made.open("2");
  made.stop();
  assert.deepEqual(asked.slice(0, 2), [NEWEST, PAGE]);
  assert.deepEqual([view.lastSeq, view.older, ids(made)], [7, "6", ["6", "7", "9"]]);
});

test("all pages of the changed conversations are read, and the first cursor is kept", async () => {
  const { made, asked } = client({
    "GET /conversations?limit=100": { conversations: [conversation({ peerId: "2" })], next: null, cursor: "10" },
    "GET /conversations?changedAfter=10&limit=100": { conversations: [conversation({ peerId: "3" })], next: "5.77", cursor: "20" },
    "GET /conversations?changedAfter=5.77&limit=100": { conversations: [conversation({ peerId: "4" })], next: null, cursor: "30" },
    "GET /conversations?changedAfter=20&limit=100": { conversations: [], next: null, cursor: "40" },
  });
  await made.sync();
  await made.sync();
  await made.sync();
  made.stop();
  assert.deepEqual([...made.conversations.keys()], ["2", "3", "4"]);
  assert.equal(asked.at(-1), "GET /conversations?changedAfter=20&limit=100");
});

test("a number below the one that is kept: the conversation is read anew, as far as it was shown", async () => {
  let lost = false;
  const { made } = client({
    "GET /conversations?limit=100": { conversations: [], next: null, cursor: "1" },
    "GET /conversations?changedAfter=1&limit=100": { conversations: [], next: null, cursor: "1" },
    [NEWEST]: () => ({ changes: [], next: null, lastSeq: lost ? 6 : 8 }),
    "GET /conversations/2/changes?after=8&limit=200": { changes: [], next: null, lastSeq: 6 },
    [ONE]: () => conversation({ readUpTo: lost ? "5" : "7" }),
    [PAGE]: () => ({ messages: lost ? [message(6)] : [message(8), message(6)], next: "6" }),
    "GET /conversations/2/messages?before=6&limit=30": { messages: [message(5)], next: null },
    // The same, as the copy is read anew.
    "GET /conversations/2/messages?limit=30&before=6": { messages: [message(5)], next: null },
  });
  const view = await made.open("2");
  assert.equal(await made.loadOlder("2"), false);
  await until(made, () => view.readUpTo.get("1") === "7");
  assert.deepEqual([ids(made), view.lastSeq], [["5", "6", "8"], 8]);
  lost = true;
  await made.sync();
  made.stop();
  assert.deepEqual([ids(made), view.lastSeq, view.readUpTo.get("1")], [["5", "6"], 6, "5"]);
});

test("a page that was asked for before a recall and answered after it shows no words", async () => {
  let late: () => void = () => undefined;
  const answered = new Promise<void>((resolve) => (late = resolve));
  const { made, sockets } = client({
    "GET /conversations?limit=100": { conversations: [], next: null, cursor: "1" },
    [NEWEST]: { changes: [], next: null, lastSeq: 7 },
    [ONE]: conversation(),
    [PAGE]: { messages: [message(7)], next: "7" },
    "GET /conversations/2/messages?before=7&limit=30": () => answered.then(() => ({ messages: [message(6), message(5)], next: null })),
  });
  await started(made, sockets);
  await made.open("2");
  const older = made.loadOlder("2");
  const told = { type: "MESSAGE_RECALLED", messageId: "6", conversationId: "1_2", recallTime: 5 };
  hears(sockets[0], told);
  late();
  await older;
  made.stop();
  assert.deepEqual(made.views.get("2")?.inOrder().map(({ content, status }) => [content, status]), [
    ["words 5", 1],
    ["", 0],
    ["words 7", 1],
  ]);
});

test("a list that was asked for before a push does not put back what the push has changed", async () => {
  let late: () => void = () => undefined;
  const answered = new Promise<void>((resolve) => (late = resolve));
  const old = conversation({ lastMessage: message(7), unread: 1 });
  const { made, sockets } = client({
    "GET /conversations?limit=100": () => answered.then(() => ({ conversations: [old], next: null, cursor: "1" })),
    [ONE]: conversation({ lastMessage: message(7, { status: 0, content: "", recallTime: 5 }) }),
  });
  await started(made, sockets);
  const reading = made.sync();
  const told = { type: "MESSAGE_RECALLED", messageId: "7", conversationId: "1_2", recallTime: 5 };
  hears(sockets[0], told);
  await until(made, () => made.conversations.get("2")?.unread === 0);
  late();
  await reading;
  assert.deepEqual([made.conversations.get("2")?.unread, made.conversations.get("2")?.lastMessage?.content], [0, ""]);
  made.stop();
});

test("a send is repeated under its name, and stays in the storage until its answer", async () => {
  const bodies: { clientMsgId: string; content: string }[] = [];
  const saved: Outgoing[][] = [];
  let tries = 0;
  const options: Partial<ClientOptions> = {
    outbox: {
      load: () => [{ clientMsgId: "kept", peerId: "2", content: "from before", msgType: 1, writtenAt: 1, state: "sending" }],
      save: (outbox) => void saved.push(outbox.map((one) => ({ ...one }))),
    },
  };
  const fetched = async (_: unknown, init?: RequestInit): Promise<Response> => {
    if (init?.method !== "POST") return Response.json({ code: "not_found", detail: "" }, { status: 404 });
    const body = JSON.parse(String(init.body)) as { clientMsgId: string; content: string };
    bodies.push(body);
    tries += 1;
    if (tries === 1) throw new TypeError("the connection was reset");
    if (tries === 2) return Response.json({ code: "unavailable", detail: "" }, { status: 503, headers: { "retry-after": "0" } });
    if (body.content === "refused") return Response.json({ code: "blocked", detail: "no" }, { status: 403 });
    return Response.json(message(tries, { fromUserId: "1", toId: "2", content: body.content, clientMsgId: body.clientMsgId }), { status: 201 });
  };
  const { made } = client({}, { ...options, fetch: fetched as typeof fetch });
  await made.start();
  const refused = made.send("2", "refused");
  const last = made.send("2", "last");
  await until(made, () => made.outbox.length === 1 && refused.state === "failed");
  made.stop();
  assert.deepEqual(bodies.map(({ content }) => content), ["from before", "from before", "from before", "refused", "last"]);
  assert.equal(new Set(bodies.slice(0, 3).map(({ clientMsgId }) => clientMsgId)).size, 1);
  assert.notEqual(refused.clientMsgId, last.clientMsgId);
  assert.deepEqual(refused.error, { code: "blocked", detail: "no" });
  assert.deepEqual(saved.at(-1)?.map(({ content, state }) => [content, state]), [["refused", "failed"]]);
  made.discard(refused);
  assert.equal(made.outbox.length, 0);
});
