/** What DNS leaves for the node's part of a default name: 63 characters less `local-`, a dash and eight digits. */
const NODE_LENGTH = 63 - 'local-'.length - '-'.length - 8;

/**
 * Name of a block volume that was given none: names of nodes may be longer than a volume's, and have dots. What is no node's name at
 * all is refused when the volume is planned.
 */
export function defaultVolumeName(node: unknown, random: string): string {
  const plain = String(node)
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, NODE_LENGTH)
    .replaceAll(/^-+|-+$/g, '');
  return `local-${plain}-${random}`;
}
