/** Tokens of the users of this page: pasted ones, or those that a server on this machine gives. */

/** Tokens that a person has pasted, by user. They live as long as the page. */
export const ownTokens = new Map<string, string>();

const kept = new Map<string, { token: string; until: number }>();

/** A token of the user that is good for a while. Rejects if the server gives none. */
export async function fetchToken(user: string, renew = false): Promise<string> {
  const own = ownTokens.get(user);
  if (own) return own;
  const known = kept.get(user);
  if (known && !renew && known.until > Date.now()) return known.token;
  const answer = await fetch("/dev/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ userId: user }),
  });
  if (!answer.ok) throw new Error(`no token: ${answer.status}`);
  const { token, lifetimeMs } = (await answer.json()) as { token: string; lifetimeMs: number };
  kept.set(user, { token, until: Date.now() + lifetimeMs / 2 });
  return token;
}
