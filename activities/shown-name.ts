/** Longest part of a name that a message shows, in characters. */
const SHOWN = 120;

/** An entry's name as messages and logs may show it: no control characters, no end of line, not endless. */
export function shownName(name: string): string {
  const printable = name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '\ufffd');
  return printable.length > SHOWN ? `'${printable.slice(0, SHOWN)}…'` : `'${printable}'`;
}
