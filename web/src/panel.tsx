/** The live numbers at the foot of the page. */
import { useEffect, useState } from "preact/hooks";
import { between, parse } from "./metrics.js";
import type { Numbers, Reading } from "./metrics.js";
import type { Words } from "./words.js";

const EVERY_MS = 2_000;
const KEPT = 60;

export function Panel({ words }: { words: Words }) {
  const [past, setPast] = useState<Numbers[]>([]);
  const [missing, setMissing] = useState(false);
  useEffect(() => {
    let last: Reading | null = null;
    let ended = false;
    const read = async () => {
      try {
        const answer = await fetch("/metrics");
        setMissing(!answer.ok);
        if (!answer.ok || ended) return;
        const now = parse(await answer.text(), Date.now());
        if (last) {
          const numbers = between(last, now);
          setPast((before) => [...before, numbers].slice(-KEPT));
        }
        last = now;
      } catch {
        // The server is away. The panes say so.
        last = null;
      }
    };
    void read();
    const timer = setInterval(() => document.hidden || void read(), EVERY_MS);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, []);
  if (missing) return <footer class="numbers">{words.numbersNone}</footer>;
  return (
    <footer class="numbers" aria-label={words.numbers}>
      <Chart label={words.sends} values={past.map((one) => one.sends)} digits={1} />
      <Chart label={words.p99} values={past.map((one) => one.p99Ms)} digits={1} />
      <Chart label={words.delay} values={past.map((one) => one.delayMs)} digits={0} />
      <Chart label={words.pending} values={past.map((one) => one.pending)} digits={0} />
    </footer>
  );
}

/** One number with its last two minutes. A gap is a time without a value. */
function Chart({ label, values, digits }: { label: string; values: (number | null)[]; digits: number }) {
  const last = [...values].reverse().find((value) => value !== null);
  const top = Math.max(1e-9, ...values.map((value) => value ?? 0));
  const width = 100 / KEPT;
  return (
    <figure>
      <figcaption>
        <strong>{last === undefined || last === null ? "–" : last.toFixed(digits)}</strong> <span>{label}</span>
      </figcaption>
      <svg viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">
        {values.map((value, place) => {
          if (value === null) return null;
          const height = Math.max(0.6, (value / top) * 23);
          return <rect key={place} x={(KEPT - values.length + place) * width} y={24 - height} width={width * 0.7} height={height} />;
        })}
      </svg>
    </figure>
  );
}
