/** Whether a version is older than another, by major and minor number; one that cannot be read is not. */
export function isOlder(version: string, than: string): boolean {
  const [a, b] = [numbersOf(version), numbersOf(than)];
  if (!a || !b) return false;
  return a.major < b.major || (a.major === b.major && a.minor < b.minor);
}

function numbersOf(version: string): { major: number; minor: number } | undefined {
  const { major, minor } = /^v?(?<major>\d+)\.(?<minor>\d+)/.exec(version)?.groups ?? {};
  return major === undefined ? undefined : { major: Number(major), minor: Number(minor) };
}
