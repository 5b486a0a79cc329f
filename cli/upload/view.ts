import { bytes, duration, percent } from '../render/figures.js';

/** Shows an upload. */
export interface UploadView {
  show(sent: number, total: number): void;
  say(text: string): void;
  end(): void;
}

/** Least time between two lines, in ms. */
const LINE_MS = 2_000;
/** The rate is that of the last so many ms. */
const WINDOW_MS = 5_000;

/** A bar on a terminal, lines on anything else. */
export async function createUploadView(stream: NodeJS.WriteStream): Promise<UploadView> {
  const rate = createRate();
  if (!stream.isTTY) return createLines((line) => void stream.write(`${line}\n`), rate);
  const { createBar } = await import('../render/bar.js');
  const bar = createBar(stream);
  let said = '';
  let last = { sent: 0, total: 0 };
  function draw(): void {
    const { sent, total } = last;
    const fraction = total > 0 ? sent / total : 0;
    const shown = total > 0 ? figures(sent, total, rate(sent)) : '';
    bar.show(fraction, { phase: 'Uploading', part: percent(fraction), figures: `${shown} ${said}` });
  }
  return {
    show(sent, total) {
      last = { sent, total };
      draw();
    },
    say(text) {
      said = text;
      // who waits for something sees no bytes move
      draw();
    },
    end: () => bar.end(),
  };
}

function createLines(write: (line: string) => void, rate: (sent: number) => number): UploadView {
  let at = -Infinity;
  let said = '';
  return {
    show(sent, total) {
      const now = rate(sent);
      if (performance.now() - at < LINE_MS) return;
      at = performance.now();
      write(`uploading  ${percent(sent / total)}  ${figures(sent, total, now)}`);
    },
    say(text) {
      if (text !== said) write(text);
      said = text;
    },
    end: () => undefined,
  };
}

/** Bytes a second over the last seconds. */
function createRate(): (sent: number) => number {
  const seen: { readonly at: number; readonly sent: number }[] = [];
  return (sent) => {
    const at = performance.now();
    // the offset has gone back: what was sent before does not count
    if (sent < (seen.at(-1)?.sent ?? 0)) seen.length = 0;
    seen.push({ at, sent });
    while (seen.length > 2 && (seen[0]?.at ?? at) < at - WINDOW_MS) seen.shift();
    const [first] = seen;
    return first && at > first.at ? ((sent - first.sent) * 1000) / (at - first.at) : 0;
  };
}

function figures(sent: number, total: number, rate: number): string {
  const left = rate > 0 ? `  ETA ${duration(Math.ceil((total - sent) / rate) * 1000)}` : '';
  return `${bytes(sent)} of ${bytes(total)}  ${bytes(rate)}/s${left}`;
}
