/** Numbers of `/metrics`: Prometheus' text, read twice and compared. */

/** The numbers of the time between two readings. */
export interface Numbers {
  /** Accepted sends a second. */
  sends: number;
  /** The 99th percentile of a send, ms; null without a send. */
  p99Ms: number | null;
  /** The 99th percentile of the time from a send to its row in MySQL, ms; null if no message became a row. */
  delayMs: number | null;
  /** Messages that MySQL does not have yet. */
  pending: number | null;
}

type Sample = { name: string; labels: Record<string, string>; value: number };

/** One reading. */
export interface Reading {
  at: number;
  samples: Sample[];
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;

/** Reads Prometheus' text. */
export function parse(text: string, at: number): Reading {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    const found = LINE.exec(line);
    if (!found) continue;
    const labels: Record<string, string> = {};
    for (const [, name, value] of (found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      if (name !== undefined) labels[name] = value ?? "";
    }
    samples.push({ name: found[1] ?? "", labels, value: Number(found[3]) });
  }
  return { at, samples };
}

/** The numbers of the time between two readings. */
export function between(before: Reading, after: Reading): Numbers {
  const seconds = Math.max(0.001, (after.at - before.at) / 1000);
  const sum = (reading: Reading, name: string, outcome?: string): number =>
    reading.samples
      .filter((sample) => sample.name === name && (outcome === undefined || sample.labels["outcome"] === outcome))
      .reduce((total, sample) => total + sample.value, 0);
  const pending = after.samples.filter((sample) => sample.name === "hongyan_pending_messages");
  return {
    sends: Math.max(0, sum(after, "hongyan_sends_total", "accepted") - sum(before, "hongyan_sends_total", "accepted")) / seconds,
    p99Ms: percentile(before, after, "hongyan_send_seconds"),
    delayMs: percentile(before, after, "hongyan_persist_delay_seconds"),
    pending: pending.length === 0 ? null : pending.reduce((total, sample) => total + sample.value, 0),
  };
}

/** The 99th percentile of a histogram's new values, ms: within its bucket, as Prometheus' `histogram_quantile` has it. */
function percentile(before: Reading, after: Reading, name: string): number | null {
  const buckets = new Map<number, number>();
  for (const [reading, sign] of [[before, -1], [after, 1]] as const) {
    for (const sample of reading.samples) {
      if (sample.name !== `${name}_bucket`) continue;
      const limit = sample.labels["le"] === "+Inf" ? Infinity : Number(sample.labels["le"]);
      buckets.set(limit, (buckets.get(limit) ?? 0) + sign * sample.value);
    }
  }
  const limits = [...buckets.entries()].sort(([a], [b]) => a - b);
  const total = limits.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  const rank = 0.99 * total;
  let lower = 0;
  let below = 0;
  for (const [limit, count] of limits) {
    if (count >= rank) {
      if (limit === Infinity) return lower * 1000;
      return (lower + ((limit - lower) * (rank - below)) / Math.max(1e-9, count - below)) * 1000;
    }
    lower = limit;
    below = count;
  }
  return null;
}
