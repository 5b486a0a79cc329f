/** The statements of the OpenShift documentation: how many, in which chapters, and which of them may be unproved. */

/** Statements of the two documents together. */
export const STATEMENTS = 156;

/** Rows that may be facts about other software, each with its reason. */
export const FACTS_AT_MOST = 40;

/** Chapters in the order of the documents: which statements each has. */
export const CHAPTERS: readonly {
  readonly section: string;
  readonly first: number;
  readonly last: number;
}[] = [
  { section: '6.12.1', first: 1, last: 34 },
  { section: '6.12.2', first: 35, last: 51 },
  { section: '6.12.3', first: 52, last: 76 },
  { section: '6.12.4', first: 77, last: 94 },
  { section: '6.12.5', first: 95, last: 101 },
  { section: '6.12.6', first: 102, last: 122 },
  { section: '6.12.7', first: 123, last: 141 },
  { section: '2.20', first: 142, last: 156 },
];

/** Statements about uploads, clones and virtual machines, whose lifecycles come later: they may be open. */
export const LATER_SUBJECTS: ReadonlySet<number> = new Set([
  // uploads: the chapter, the upload into a block DataVolume, why an upload needs scratch space
  ...[35, 36, 37, 43, 44, 45, 46, 47, 48, 49, 50, 51],
  ...[52, 53, 56, 67, 68, 69, 70, 71, 72, 73, 74, 135],
  // clones, virtual machines
  ...range(77, 94),
  ...range(142, 155),
]);

/** Statements about local storage, block volumes, defaults and scratch space that wait for code which has not landed. */
export const NOT_BUILT_YET: ReadonlySet<number> = new Set<number>();

function range(first: number, last: number): readonly number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
