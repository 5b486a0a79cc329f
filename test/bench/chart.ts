/** One line of a chart. */
export interface Line {
  readonly name: string;
  /** One value for each label of the x axis. */
  readonly values: readonly number[];
  /** Which of the chart's colours it has; the engine has the first. */
  readonly colour: 0 | 1 | 2;
}

/** One picture of a chart: lines over the same x axis. */
export interface Panel {
  readonly title: string;
  readonly labels: readonly string[];
  readonly lines: readonly Line[];
}

const WIDTH = 420;
const HEIGHT = 280;
const PLOT = { left: 52, right: 16, top: 36, bottom: 58 } as const;
const PLOT_WIDTH = WIDTH - PLOT.left - PLOT.right;
const PLOT_HEIGHT = HEIGHT - PLOT.top - PLOT.bottom;

/** Dark on a light page and light on a dark one; the lines differ by dashes too. */
const STYLE = `<style>
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .title { font-weight: 600; }
  .grid { stroke: #d0d7de; }
  .line { fill: none; stroke-width: 2; }
  .c0 { stroke: #0969da; } .c1 { stroke: #9a6700; stroke-dasharray: 6 4; } .c2 { stroke: #6e7781; stroke-dasharray: 2 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .grid { stroke: #3d444d; }
    .c0 { stroke: #4493f8; } .c1 { stroke: #d29922; } .c2 { stroke: #9198a1; }
  }
</style>`;

/** Panels side by side as one SVG, for light pages and dark ones. */
export function renderChart(title: string, panels: readonly Panel[]): string {
  const width = WIDTH * panels.length;
  const drawn = panels.map(
    (panel, index) => `<g transform="translate(${index * WIDTH} 0)">\n${draw(panel)}\n</g>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${HEIGHT}" width="${width}" height="${HEIGHT}" role="img" aria-label="${escape(title)}">
${STYLE}
${drawn.join('\n')}
</svg>
`;
}

function draw({ title, labels, lines }: Panel): string {
  const step = niceStep(Math.max(...lines.flatMap(({ values }) => values)));
  const top = step * Math.max(1, Math.ceil(Math.max(...lines.flatMap(({ values }) => values)) / step));
  const x = (index: number): number => PLOT.left + (PLOT_WIDTH * (index + 0.5)) / labels.length;
  const y = (value: number): number => PLOT.top + PLOT_HEIGHT * (1 - value / top);
  const ticks = Array.from({ length: Math.round(top / step) + 1 }, (_, index) => index * step);
  return [
    text(title, { x: PLOT.left, y: 20, className: 'title' }),
    ...ticks.map((value) => grid(value, y(value))),
    ...labels.map((label, index) =>
      text(label, { x: x(index), y: HEIGHT - PLOT.bottom + 18, anchor: 'middle' }),
    ),
    ...lines.map(({ values, colour }) => {
      const points = values.map((value, index) => `${round(x(index))},${round(y(value))}`).join(' ');
      return `<polyline class="line c${colour}" points="${points}"/>`;
    }),
    ...lines.map((line, index) => legend(line, PLOT.left + widthOf(lines.slice(0, index)))),
  ].join('\n');
}

/** Distance of the horizontal lines: 1, 2 or 5 times a power of ten, so that there are two to five of them. */
export function niceStep(largest: number): number {
  const rough = largest / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  return ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
}

function grid(value: number, y: number): string {
  return [
    `<line class="grid" x1="${PLOT.left}" x2="${WIDTH - PLOT.right}" y1="${round(y)}" y2="${round(y)}"/>`,
    text(String(round(value)), { x: PLOT.left - 8, y: y + 4, anchor: 'end' }),
  ].join('\n');
}

/** About: what the letters of a system font take, a dash before and a gap behind. */
function widthOf(lines: readonly Line[]): number {
  return lines.reduce((sum, { name }) => sum + 28 + 6.6 * name.length + 16, 0);
}

function legend({ name, colour }: Line, x: number): string {
  const y = HEIGHT - 14;
  return [
    `<line class="line c${colour}" x1="${round(x)}" x2="${round(x + 22)}" y1="${y - 4}" y2="${y - 4}"/>`,
    text(name, { x: x + 28, y }),
  ].join('\n');
}

interface Place {
  readonly x: number;
  readonly y: number;
  readonly anchor?: 'middle' | 'end';
  readonly className?: string;
}

function text(content: string, { x, y, anchor, className }: Place): string {
  const attributes = [
    className === undefined ? '' : ` class="${className}"`,
    anchor === undefined ? '' : ` text-anchor="${anchor}"`,
  ].join('');
  return `<text x="${round(x)}" y="${round(y)}"${attributes}>${escape(content)}</text>`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function escape(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
