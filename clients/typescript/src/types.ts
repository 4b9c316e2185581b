/** The data that the server answers and pushes. Generated from `docs/openapi.yaml`, but for the pushes (`docs/contract.md`, "WebSocket"). */
import type { components } from "./openapi.js";

/** A message, as one of its two users sees it. Ids are decimal strings: a JavaScript number would round them. */
export type Message = components["schemas"]["Message"];
/** A conversation of the list. */
export type Conversation = components["schemas"]["Conversation"];
/** A change of a conversation, with its number `seq`. */
export type Change = components["schemas"]["Change"];
/** The answer of a recall. */
export type Recalled = components["schemas"]["Recalled"];
/** A page of messages, newest first unless it was asked for by `after`. */
export type MessagePage = components["schemas"]["Page"];
/** A page of changes. */
export type ChangePage = components["schemas"]["Changes"];
/** A page of the list of conversations. */
export type ConversationPage = components["schemas"]["Conversations"];
/** The body of an error answer: RFC 9457, with a stable `code`. */
export type Problem = components["schemas"]["Problem"];

/** A message in a push: its `content` is null if the push would have been too large. */
export type PushedMessage = Omit<Message, "content"> & { content: string | null; truncated?: boolean };

/** A push. Pushes are hints: they may be lost, late or doubled. */
export type Push =
  | { type: "MESSAGE"; data: PushedMessage }
  | { type: "MESSAGE_RECALLED"; messageId: string; conversationId: string; recallTime: number }
  | { type: "READ"; conversationId: string; userId: string; upTo: string }
  | { type: "MESSAGE_DELETED"; messageId: string; conversationId: string }
  | { type: "CONVERSATION_CLEARED"; conversationId: string; upTo: string }
  | { type: "TYPING"; conversationId: string; fromUserId: string }
  | { type: "PONG" }
  | { type: "ERROR"; code: string; detail: string };

/** Compares two ids as numbers: negative if `a` is older. */
export function compareIds(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}

/** The other user of a conversation id, which has both ids, the lower one first. */
export function peerOf(conversationId: string, user: string): string {
  const [lower = "", higher = ""] = conversationId.split("_");
  return lower === user ? higher : lower;
}
