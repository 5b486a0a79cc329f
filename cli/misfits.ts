/** Options by name, as commander has them, each with the kinds of source that it means something to; others are for all. */
export type OnlyOf<Kind extends string> = Readonly<Record<string, readonly Kind[]>>;

/** The first option that was given and means nothing to a source of this kind: its flag, and what it is for. */
export function findMisfit<Kind extends string>(
  kind: Kind,
  options: object,
  onlyOf: OnlyOf<Kind>,
): { readonly flag: string; readonly kinds: readonly Kind[] } | undefined {
  for (const [name, kinds] of Object.entries(onlyOf)) {
    if (options[name as keyof typeof options] === undefined || kinds.includes(kind)) continue;
    return { flag: `--${name.replaceAll(/[A-Z]/gu, (letter) => `-${letter.toLowerCase()}`)}`, kinds };
  }
  return undefined;
}
