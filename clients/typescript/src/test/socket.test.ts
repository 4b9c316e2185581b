/** The socket: when it connects again, with which token, and when not. Time is set by the tests. */
import assert from "node:assert/strict";
import { mock, test } from "node:test";
import type { TestContext } from "node:test";
import { PushSocket } from "../index.js";
import type { Push, SocketLike } from "../index.js";

const SOON_MS = 60_000;

/** A connection whose other end is the test. */
class Connection implements SocketLike {
  static all: Connection[] = [];
  readyState = 0;
  readonly said: string[] = [];
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  onerror: ((event: never) => void) | null = null;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {
    Connection.all.push(this);
  }

  send(data: string): void {
    this.said.push(data);
  }

  close(): void {
    this.readyState = 3;
  }

  opens(): void {
    this.readyState = 1;
    this.onopen?.({} as never);
  }

  hears(data: unknown): void {
    this.onmessage?.({ data });
  }

  ends(code: number): void {
    this.readyState = 3;
    this.onclose?.({ code });
  }
}

interface Site {
  socket: PushSocket;
  events: string[];
  pushes: Push[];
  renewals: boolean[];
}

function site(t: TestContext, token = "token"): Site {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_796_000_000_000 });
  Connection.all = [];
  const [events, pushes, renewals]: [string[], Push[], boolean[]] = [[], [], []];
  const socket = new PushSocket({
    url: "ws://127.0.0.1:1/ws",
    token: ({ renew }) => {
      renewals.push(renew);
      return token;
    },
    WebSocket: Connection,
    onPush: (push) => pushes.push(push),
    onOpen: () => events.push("open"),
    onClose: (code) => events.push(`close ${code}`),
  });
  t.after(() => {
    socket.close();
    mock.timers.reset();
  });
  return { socket, events, pushes, renewals };
}

/** The connection number `count`, once the promises that lead to it are done. */
async function connection(count: number): Promise<Connection> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  const found = Connection.all[count - 1];
  assert.equal(Connection.all.length, count);
  assert.ok(found);
  return found;
}

test("the token is a subprotocol, pushes are passed on, and odd texts are no harm", async (t) => {
  const { socket, events, pushes } = site(t);
  socket.open();
  socket.open();
  const first = await connection(1);
  assert.deepEqual(first.protocols, ["hongyan.v1", "bearer.token"]);
  first.opens();
  for (const odd of ["", "{", "null", "[]", '{"type":7}', {}]) first.hears(odd);
  first.hears('{"type":"PONG"}');
  assert.deepEqual([events, pushes], [["open"], [{ type: "PONG" }]]);
});

test("it connects again after a close, and with a new token where the old one may be why", async (t) => {
  const { socket, events, renewals } = site(t);
  socket.open();
  const first = await connection(1);
  first.opens();
  first.ends(1001);
  mock.timers.tick(SOON_MS);
  const second = await connection(2);
  second.opens();
  second.ends(4401);
  mock.timers.tick(SOON_MS);
  const third = await connection(3);
  third.ends(1006); // never opened
  mock.timers.tick(SOON_MS);
  await connection(4);
  assert.deepEqual(renewals, [false, false, true, true]);
  assert.deepEqual(events, ["open", "close 1001", "open", "close 4401", "close 1006"]);
});

test("a connection that gave way stays closed until the user comes back", async (t) => {
  const { socket } = site(t);
  socket.open();
  (await connection(1)).opens();
  (await connection(1)).ends(4409);
  mock.timers.tick(SOON_MS);
  await connection(1);
  assert.equal(socket.gaveWay, true);
  socket.hurry();
  await connection(2);
  assert.equal(socket.gaveWay, false);
});

test("a connection without an answer to a ping is dropped, though nobody closes it", async (t) => {
  const { socket, events } = site(t);
  socket.open();
  const first = await connection(1);
  first.opens();
  mock.timers.tick(20_000);
  assert.deepEqual(first.said, ['{"action":"ping"}']);
  first.hears('{"type":"PONG"}');
  mock.timers.tick(20_000);
  assert.equal(first.said.length, 2);
  assert.deepEqual(events, ["open"]);
  mock.timers.tick(8_000);
  assert.deepEqual(events, ["open", "close 1006"]);
  first.hears('{"type":"PONG"}');
  first.ends(1006);
  mock.timers.tick(SOON_MS);
  (await connection(2)).opens();
  assert.deepEqual(events, ["open", "close 1006", "open"]);
});

test("a handshake that takes too long is dropped", async (t) => {
  const { socket } = site(t);
  socket.open();
  const first = await connection(1);
  mock.timers.tick(10_000);
  first.opens();
  mock.timers.tick(SOON_MS);
  await connection(2);
});

test("a new token is fetched before the old one ends", async (t) => {
  const claims = { sub: "1", exp: 1_796_000_000 + 300 };
  const { socket, events, renewals } = site(t, `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.y`);
  socket.open();
  const first = await connection(1);
  first.opens();
  // The other end answers each ping.
  for (let passed = 0; passed < 280_000; passed += 10_000) {
    assert.deepEqual(events, ["open"]);
    first.hears('{"type":"PONG"}');
    mock.timers.tick(10_000);
  }
  assert.deepEqual(events, ["open", "close 4401"]);
  mock.timers.tick(SOON_MS);
  await connection(2);
  assert.deepEqual(renewals, [false, true]);
});

test("nothing connects after the end", async (t) => {
  const { socket, events } = site(t);
  socket.open();
  (await connection(1)).opens();
  socket.close();
  socket.hurry();
  mock.timers.tick(SOON_MS);
  await connection(1);
  assert.deepEqual(events, ["open"]);
});
