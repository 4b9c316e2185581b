/** The copy of a conversation ends the same, in whatever order and however often its events come. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Change, Message, Push } from "../types.js";
import { ConversationView } from "../view.js";

const at = 1_796_000_000_000;

function message(id: number, more: Partial<Message> = {}): Message {
  return {
    id: String(id),
    conversationId: "1_2",
    fromUserId: "1",
    toId: "2",
    content: `words ${id}`,
    msgType: 1,
    chatType: 1,
    sendTime: at + id,
    status: 1,
    recallTime: null,
    persistStatus: "PENDING",
    seq: null,
    ...more,
  };
}

/** The end of a view, as a person sees it. */
function shown(view: ConversationView): unknown {
  const messages = view.inOrder().map(({ id, content, status, persistStatus, seq }) => ({ id, content, status, persistStatus, seq }));
  return { messages, read: [...view.readUpTo].sort() };
}

test("events in any order, doubled and late, end with the same view", () => {
  const events: (Change | Push)[] = [
    { type: "MESSAGE", data: message(9) },
    { type: "MESSAGE", seq: 1, data: message(9, { seq: 1, persistStatus: "PERSISTED" }) },
    { type: "MESSAGE", data: message(10) },
    { type: "MESSAGE", seq: 2, data: message(10, { seq: 2, persistStatus: "PERSISTED" }) },
    { type: "MESSAGE_RECALLED", seq: 3, messageId: "10", recallTime: at + 50 },
    { type: "MESSAGE", data: message(11) },
    { type: "MESSAGE_DELETED", seq: 5, messageId: "11" },
    { type: "MESSAGE", data: message(3) },
    { type: "CONVERSATION_CLEARED", seq: 6, upTo: "8" },
    { type: "READ", seq: 7, userId: "2", upTo: "9" },
    { type: "READ", seq: 8, userId: "2", upTo: "11" },
    { type: "MESSAGE", data: { ...message(12), content: null, truncated: true } as never },
    { type: "MESSAGE", seq: 9, data: message(12, { seq: 9, persistStatus: "PERSISTED" }) },
  ];
  const order = fc.shuffledSubarray([...events, ...events], { minLength: events.length * 2, maxLength: events.length * 2 });
  fc.assert(
    fc.property(order, (shuffled) => {
      const view = new ConversationView("1", "2");
      for (const event of shuffled) {
        view.apply(event);
        for (const one of view.messages.values()) {
          assert.notEqual(one.content, null);
          assert.ok(one.status === 1 || one.content === "");
        }
      }
      const messages = [
        { id: "9", content: "words 9", status: 1, persistStatus: "PERSISTED", seq: 1 },
        { id: "10", content: "", status: 0, persistStatus: "PERSISTED", seq: 2 },
        { id: "12", content: "words 12", status: 1, persistStatus: "PERSISTED", seq: 9 },
      ];
      assert.deepEqual(shown(view), { messages, read: [["2", "11"]] });
    }),
    { numRuns: 500 },
  );
});

test("a push without its content asks for the message, unless the message is known", () => {
  const view = new ConversationView("1", "2");
  const truncated = { ...message(7), content: null, truncated: true };
  assert.equal(view.put(truncated), false);
  assert.equal(view.messages.size, 0);
  assert.equal(view.put(message(7)), true);
  assert.equal(view.put(truncated), true);
  assert.equal(view.messages.get("7")?.content, "words 7");
});

test("ids are compared as numbers, and the order is theirs", () => {
  const view = new ConversationView("1", "2");
  for (const id of ["9", "10", "383647954231138816", "99"]) view.put({ ...message(1), id });
  assert.deepEqual(view.inOrder().map(({ id }) => id), ["9", "10", "99", "383647954231138816"]);
});
