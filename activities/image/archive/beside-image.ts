/** Whether a file in an archive says nothing of the disk beside it: an empty one, or one that macOS packs beside each file. */
export function isBesideImage({ name, size }: { readonly name: string; readonly size: number }): boolean {
  return size === 0 || isAppleDouble(name);
}

/** Resource forks and attributes, kept in a file `._name` of their own. */
export function isAppleDouble(name: string): boolean {
  return name.slice(name.lastIndexOf('/') + 1).startsWith('._');
}
