import { normalize } from 'node:path';

/**
 * `text` without the run of `characters` that it ends in, found from its end. A regexp for that, `/\n+$/`, looks at each run in the
 * text as far as the run's end, again from each of its characters: for 80 000 of them that is half a minute.
 */
export function withoutEnd(text: string, characters: string): string {
  let end = text.length;
  while (end > 0 && characters.includes(text.charAt(end - 1))) end -= 1;
  return text.slice(0, end);
}

/** A directory's path without slashes at its end; the root stays `/`. */
export function plainDirectory(path: string): string {
  return withoutEnd(path, '/') || path.slice(0, 1);
}

/** A path in the one way in which paths are compared: without detours, and without a slash at its end; the root is empty. */
export function plainPath(path: string): string {
  return withoutEnd(normalize(path), '/');
}
