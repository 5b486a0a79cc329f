import { SingleBar } from 'cli-progress';

/** What stands around the bar. */
export interface BarText {
  readonly phase: string;
  /** Percentage, or nothing where no denominator is known. */
  readonly part: string;
  readonly figures: string;
}

/** A progress bar on a terminal, which begins with the first thing that is shown and is wiped at the end. */
export interface Bar {
  /** @param fraction of the work, 0 to 1 */
  show(fraction: number, text: BarText): void;
  end(): void;
}

/** Makes the bar. */
export function createBar(stream: NodeJS.WriteStream): Bar {
  const bar = new SingleBar({
    stream,
    format: '{phase} |{bar}| {part} {figures}',
    barsize: 24,
    hideCursor: true,
    clearOnComplete: true,
    stopOnComplete: false,
  });
  let started = false;
  return {
    show(fraction, text) {
      const value = Math.floor(fraction * 1_000);
      if (started) bar.update(value, text);
      else bar.start(1_000, value, text);
      started = true;
    },
    end() {
      if (started) bar.stop();
      started = false;
    },
  };
}
