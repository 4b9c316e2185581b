/** The calls: what is tried again, what an error says, and whose token is used. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiError, HongyanApi } from "../index.js";
import type { ApiOptions } from "../index.js";

interface Asked {
  method: string;
  path: string;
  token: string | null;
}

/** An API whose answers are given one after another; `null` is no answer. */
function answering(answers: (Response | null)[], options: Partial<ApiOptions> = {}): { api: HongyanApi; asked: Asked[] } {
  const asked: Asked[] = [];
  const api = new HongyanApi({
    baseUrl: "http://127.0.0.1:1",
    token: ({ renew }) => (renew ? "new" : "old"),
    fetch: async (url, init) => {
      const { pathname, search } = url as URL;
      asked.push({ method: init?.method ?? "", path: pathname + search, token: new Headers(init?.headers).get("authorization") });
      init?.signal?.throwIfAborted();
      const answer = answers.shift();
      if (!answer) throw new TypeError("the connection was reset");
      return answer;
    },
    ...options,
  });
  return { api, asked };
}

function problem(status: number, code: string, headers: Record<string, string> = {}): Response {
  const body = { type: "about:blank", title: "t", status, detail: `it is ${code}`, code };
  return new Response(JSON.stringify(body), { status, headers: { "content-type": "application/problem+json", ...headers } });
}

test("no answer, 429 and 503 are tried again, and a refusal is not", async () => {
  const done = (): Response => Response.json({ unread: 3 });
  const { api, asked } = answering([null, problem(429, "rate_limited", { "retry-after": "0" }), done()]);
  assert.deepEqual(await api.read("2", "7"), { unread: 3 });
  assert.equal(asked.length, 3);

  const refused = answering([problem(403, "blocked"), done()]);
  await assert.rejects(refused.api.read("2", "7"), { name: "ApiError", status: 403, code: "blocked", message: "it is blocked" });
  assert.equal(refused.asked.length, 1);

  const away = answering([1, 2, 3, 4].map(() => problem(503, "unavailable", { "retry-after": "0" })));
  await assert.rejects(away.api.read("2", "7"), { status: 503, code: "unavailable", retryAfterMs: 0 });
  assert.equal(away.asked.length, 3);
});

test("a refused token is renewed once", async () => {
  const { api, asked } = answering([problem(401, "unauthorized"), new Response(null, { status: 204 })]);
  assert.equal(await api.delete("7"), undefined);
  assert.deepEqual(asked, [
    { method: "DELETE", path: "/messages/7", token: "Bearer old" },
    { method: "DELETE", path: "/messages/7", token: "Bearer new" },
  ]);
  const gone = answering([problem(401, "unauthorized"), problem(401, "unauthorized")]);
  await assert.rejects(gone.api.delete("7"), { status: 401, code: "unauthorized" });
});

test("the answer of a gateway or a proxy has a code too", async () => {
  const gateway = answering([Response.json({ message: "Forbidden" }, { status: 403 })]);
  await assert.rejects(gateway.api.message("7"), { code: "http_403", message: "Forbidden" });
  const proxy = answering([new Response("<html>", { status: 502 })], { retries: 0 });
  await assert.rejects(proxy.api.message("7"), (error) => error instanceof ApiError && error.code === "http_502" && error.isTransient);
});

test("an aborted call ends, and is not tried again", async () => {
  const { api, asked } = answering([null]);
  await assert.rejects(api.message("7", { signal: AbortSignal.abort() }), { status: 0, code: "aborted" });
  assert.equal(asked.length, 1);
});

test("numbers that JavaScript would round are sent as they are", async () => {
  const { api, asked } = answering([Response.json({ changes: [], next: null, lastSeq: 5 })]);
  await api.changes("2", "9223372036854775807", 1);
  assert.equal(asked[0]?.path, "/conversations/2/changes?after=9223372036854775807&limit=1");
});
