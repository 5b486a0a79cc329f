/** A JSON object whose members are not yet known. */
export type JsonRecord = Readonly<Record<string, unknown>>;

/** The object that a JSON text is, or `undefined` for everything else. Errors of the parser would quote the text. */
export function parseRecord(text: string | Buffer): JsonRecord | undefined {
  try {
    return asRecord(JSON.parse(text.toString()));
  } catch {
    return undefined;
  }
}

/** The value if it is an object and no array. */
export function asRecord(value: unknown): JsonRecord | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as JsonRecord)
    : undefined;
}

/** The value if it is an array. */
export function asArray(value: unknown): readonly unknown[] | undefined {
  return Array.isArray(value) ? (value as readonly unknown[]) : undefined;
}

/** The value if it is a string. */
export function asText(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
