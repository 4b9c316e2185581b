/**
 * Two devices of each of two users work on a real service, while sockets are cut, the service is killed, and Redis is emptied and
 * frozen. At the end each device's view must equal that of a fresh device, message for message, and hold no word that was recalled.
 *
 * The one who runs this program causes the faults: a line `DO name` on the standard output asks for one, and a line on the standard input
 * says that it is done. Arguments: the address, the seed, the rounds. The environment has a token of each user.
 */
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { WebSocket } from "ws";
import { ApiError, ConversationView, HongyanClient } from "../index.js";
import type { ChangePage } from "../index.js";

const [baseUrl = "", givenSeed = "1", givenRounds = "6"] = process.argv.slice(2);
const { HONGYAN_CLIENTS_SEED: seed = givenSeed, HONGYAN_CLIENTS_ROUNDS: rounds = givenRounds } = process.env;
const USERS = ["1", "2"] as const;
const SETTLED_WITHIN_MS = 60_000;

/** Numbers from a seed: mulberry32. */
let state = Number(seed) >>> 0;
function random(below: number): number {
  state = (state + 0x6d2b79f5) >>> 0;
  let mixed = Math.imul(state ^ (state >>> 15), state | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
}

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const counts: Record<string, number> = { sends: 0, refused: 0, recalls: 0, deletions: 0, clearings: 0, reads: 0, cut: 0, kill: 0, empty: 0, freeze: 0, thaw: 0 };

async function cause(fault: string): Promise<void> {
  counts[fault] = (counts[fault] ?? 0) + 1;
  process.stdout.write(`DO ${fault}\n`);
  const { done } = await answers.next();
  assert.ok(!done, "the one who causes the faults has gone");
}

function device(user: "1" | "2"): HongyanClient {
  return new HongyanClient({
    baseUrl,
    user,
    token: () => process.env[`TOKEN_${user}`] ?? "",
    WebSocket,
    timeoutMs: 8_000,
    resyncMs: 3_000,
  });
}

/** The other user. */
const peer = (user: string): string => (user === "1" ? "2" : "1");

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + SETTLED_WITHIN_MS;
  while (!(await holds())) {
    assert.ok(Date.now() < end, `waited ${SETTLED_WITHIN_MS} ms until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Ids of messages whose recall was answered 200. */
const recalled = new Set<string>();
const words = new Map<string, string>();

/** One request of a person. A fault of the moment is no matter: the person gives up, and the view must still be right. */
async function act(client: HongyanClient): Promise<void> {
  const to = peer(client.user);
  const view = client.views.get(to);
  const live = view?.inOrder().filter((message) => message.status === 1) ?? [];
  const mine = live.filter((message) => message.fromUserId === client.user);
  const choice = random(20);
  try {
    if (choice < 12) {
      client.send(to, `words ${counts["sends"]} of ${client.user} ${"🦢".repeat(random(4))}`);
      counts["sends"] = (counts["sends"] ?? 0) + 1;
    } else if (choice < 15 && mine.length > 0) {
      const message = mine[mine.length - 1 - random(Math.min(3, mine.length))];
      if (!message) return;
      words.set(message.id, message.content);
      await client.recall(message);
      recalled.add(message.id);
      counts["recalls"] = (counts["recalls"] ?? 0) + 1;
    } else if (choice < 17 && live.length > 0) {
      const message = live[random(live.length)];
      if (message) await client.delete(message);
      counts["deletions"] = (counts["deletions"] ?? 0) + 1;
    } else if (choice === 17 && live.length > 15) {
      await client.clear(to);
      counts["clearings"] = (counts["clearings"] ?? 0) + 1;
    } else {
      await client.markRead(to);
      counts["reads"] = (counts["reads"] ?? 0) + 1;
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    counts["refused"] = (counts["refused"] ?? 0) + 1;
  }
}

/** A view as it is compared. A new device learns nothing of messages that were recalled before it came: pages leave them out. */
function shown(view: ConversationView): object {
  const live = view.inOrder().filter(({ status }) => status === 1);
  const messages = live.map(({ id, content, fromUserId, seq, clientMsgId }) => ({ id, content, fromUserId, seq, clientMsgId }));
  return { messages, read: [...view.readUpTo].sort() };
}

/** The list's row of the conversation, without what a new device cannot know. */
function row(client: HongyanClient): object {
  const { lastMessage = null, unread, readUpTo, peerReadUpTo } = client.conversations.get(peer(client.user)) ?? {};
  return { last: lastMessage && { id: lastMessage.id, status: lastMessage.status, content: lastMessage.content }, unread, readUpTo, peerReadUpTo };
}

/** The messages that somebody sees who applies all changes from the first one on, and reads no page. */
async function replayed(client: HongyanClient): Promise<object> {
  const view = new ConversationView(client.user, peer(client.user));
  for (let after: number | null = 0; after !== null; ) {
    const page: ChangePage = await client.api.changes(view.peerId, after, 37);
    for (const change of page.changes) view.apply(change);
    after = page.next;
  }
  return shown(view);
}

/** A new device that has read the whole history. */
async function fresh(user: "1" | "2"): Promise<HongyanClient> {
  const client = device(user);
  await client.start();
  await until("a new device is online", () => client.online);
  await client.open(peer(user));
  while (await client.loadOlder(peer(user), 100));
  return client;
}

const devices = [device("1"), device("1"), device("2"), device("2")];
for (const client of devices) {
  await client.start();
  await until("the devices are online", () => client.online);
  await client.open(peer(client.user));
}
const faults = ["cut", "empty", "kill", "cut", "freeze", "cut"];
for (let round = 0; round < Number(rounds); round++) {
  const working = (async () => {
    for (let step = 0; step < 12; step++) {
      await Promise.all(devices.map(act));
      // The time that a person takes.
      await new Promise((resolve) => setTimeout(resolve, 50 + random(250)));
    }
  })();
  const fault = faults[round % faults.length] ?? "cut";
  await cause(fault);
  if (fault === "freeze") {
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await cause("thaw");
  }
  await working;
}
await until("everything is sent", () => devices.every((client) => client.outbox.length === 0));
await until("every device is online", () => devices.every((client) => client.online));

let divergences = 0;
for (const user of USERS) {
  for (const client of devices.filter((one) => one.user === user)) {
    const view = client.views.get(peer(user));
    assert.ok(view);
    let [own, other]: unknown[] = [];
    let last: unknown;
    const same = async (): Promise<boolean> => {
      // The device scrolls to the beginning, as far as it has not been there.
      while (await client.loadOlder(peer(user), 100));
      const newcomer = await fresh(user);
      const newView = newcomer.views.get(peer(user));
      assert.ok(newView);
      [own, other] = [{ ...shown(view), row: row(client) }, { ...shown(newView), row: row(newcomer) }];
      const again = await replayed(newcomer);
      newcomer.stop();
      if (JSON.stringify(again) !== JSON.stringify(shown(newView))) {
        [own, other] = [again, shown(newView)];
        return false;
      }
      // Messages that wait for MySQL may still become recalled.
      return !view.waits && JSON.stringify(own) === JSON.stringify(other);
    };
    await until(`a device of user ${user} shows what a new one shows`, async () => {
      const equal = await same();
      last = { own, other };
      return equal;
    }).catch((error: unknown) => {
      divergences += 1;
      process.stdout.write(`DIFFERS ${JSON.stringify(last)}\n${String(error)}\n`);
    });
    for (const id of recalled) {
      const kept = view.messages.get(id);
      assert.ok(kept === undefined || kept.content === "", `the recalled words ${words.get(id)} are shown`);
    }
  }
}
const total = devices[0]?.views.get("2")?.messages.size ?? 0;
process.stdout.write(`SUMMARY seed ${seed}: ${JSON.stringify({ ...counts, messages: total, divergences })}\n`);
for (const client of devices) client.stop();
process.exit(divergences === 0 ? 0 : 1);
