/** One way in which a registry wants to be authenticated to. */
export interface Challenge {
  /** In lower case. */
  readonly scheme: string;
  /** Names in lower case; of a name given twice the first counts. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** More than this many challenges or parameters are not looked at. */
const MOST = 16;
const TOKEN = /[\w!#$%&'*+.^`|~-]+/uy;
const BLANKS = /[\s,]*/uy;
const EQUALS = /\s*=\s*/uy;
const VALUE = /"((?:[^"\\]|\\.)*)"|([\w!#$%&'*+.^`|~:/?@=-]+)/uy;

/**
 * Reads `WWW-Authenticate` (RFC 9110 §11.6.1), in which challenges and their parameters are both separated by commas. What
 * cannot be read ends the list.
 */
export function parseChallenges(header: string | undefined): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  const text = header ?? '';
  for (let at = 0, items = 0; at < text.length && items < MOST * MOST; items += 1) {
    at = skip(BLANKS, text, at);
    const name = match(TOKEN, text, at)?.[0];
    if (name === undefined) break;
    at += name.length;
    const equals = match(EQUALS, text, at)?.[0];
    const value = equals === undefined ? null : match(VALUE, text, at + equals.length);
    if (equals !== undefined && value) {
      const { parameters } = challenges.at(-1) ?? { parameters: new Map<string, string>() };
      const key = name.toLowerCase();
      if (parameters.size < MOST && !parameters.has(key)) parameters.set(key, unquoted(value));
      at += equals.length + value[0].length;
    } else if (equals === undefined && challenges.length < MOST) {
      challenges.push({ scheme: name.toLowerCase(), parameters: new Map() });
    } else {
      break;
    }
  }
  return challenges;
}

function unquoted([, quoted, token]: RegExpExecArray): string {
  return quoted === undefined ? (token ?? '') : quoted.replace(/\\(.)/gu, '$1');
}

function skip(pattern: RegExp, text: string, at: number): number {
  return at + (match(pattern, text, at)?.[0].length ?? 0);
}

function match(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}
