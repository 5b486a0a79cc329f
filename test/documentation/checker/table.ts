/** `docs/documentation-coverage.md` as data, and what must hold of it whatever is run. */
import { CHAPTERS, FACTS_AT_MOST, LATER_SUBJECTS, NOT_BUILT_YET, STATEMENTS } from './statements.js';

/** `proved`: tests show that it holds of dvflow. `fact`: it is about other software. `open`: nobody proves it yet. */
export type Kind = 'proved' | 'fact' | 'open';

/** A test by its file, from the root of the project, and its full title: those of its suites and its own. */
export interface NamedTest {
  readonly file: string;
  readonly title: string;
}

/** One statement of the OpenShift documentation. */
export interface Row {
  readonly number: number;
  readonly section: string;
  readonly statement: string;
  readonly kind: string;
  /** How dvflow has it; for a fact and an open row, the reason. */
  readonly inDvflow: string;
  readonly tests: readonly NamedTest[];
}

/** What the judgement of a table may be told, for tests of the judgement itself. */
export interface TableRules {
  readonly statements: number;
  readonly factsAtMost: number;
  readonly laterSubjects: ReadonlySet<number>;
  readonly notBuiltYet: ReadonlySet<number>;
  /** Section of a statement, down to the chapter; undefined where any will do. */
  readonly chapterOf: (number: number) => string | undefined;
  /** A test file of that name is part of `npm test`. */
  readonly isTestFile: (file: string) => boolean;
}

/** What `docs/documentation-coverage.md` is judged by, but for the files of the tree. */
export const RULES: Omit<TableRules, 'isTestFile'> = {
  statements: STATEMENTS,
  factsAtMost: FACTS_AT_MOST,
  laterSubjects: LATER_SUBJECTS,
  notBuiltYet: NOT_BUILT_YET,
  chapterOf: (number) => CHAPTERS.find(({ first, last }) => number >= first && number <= last)?.section,
};

const CELLS = 6;
const TEST = /^`(?<file>[^`]+)`: (?<title>.+)$/;

/** Rows of all tables whose first cell is a number. @throws where a row has other cells than it should, or names a test in another way */
export function parseTable(markdown: string): readonly Row[] {
  return markdown
    .split('\n')
    .filter((line) => /^\|\s*\d+\s*\|/.test(line))
    .map(parseRow);
}

function parseRow(line: string): Row {
  const cells = line
    .split(/(?<!\\)\|/)
    .slice(1, -1)
    .map((cell) => cell.trim().replaceAll('\\|', '|'));
  if (cells.length !== CELLS) throw new Error(`${cells.length} cells instead of ${CELLS}: ${line}`);
  const [number = '', section = '', statement = '', kind = '', inDvflow = '', tests = ''] = cells;
  return { number: Number(number), section, statement, kind, inDvflow, tests: parseTests(tests) };
}

function parseTests(cell: string): readonly NamedTest[] {
  if (cell === '') return [];
  return cell.split('<br>').map((part) => {
    const { file, title } = TEST.exec(part.trim())?.groups ?? {};
    if (file === undefined || title === undefined) throw new Error(`not \`file\`: title, but ${part}`);
    return { file, title };
  });
}

/** What is wrong with the table itself, a sentence each. */
export function judgeTable(rows: readonly Row[], rules: TableRules): readonly string[] {
  return [
    ...judgeNumbers(rows, rules),
    ...judgeFacts(rows, rules),
    ...rows.flatMap((row) => judgeRow(row, rules)),
  ];
}

function judgeNumbers(rows: readonly Row[], { statements, notBuiltYet }: TableRules): readonly string[] {
  const numbers = rows.map(({ number }) => number);
  const wanted = Array.from({ length: statements }, (_, index) => index + 1);
  const stale = [...notBuiltYet].filter(
    (number) => rows.find((row) => row.number === number)?.kind !== 'open',
  );
  return [
    ...wanted.filter((number) => !numbers.includes(number)).map((number) => `statement ${number} is missing`),
    ...numbers
      .filter((number, index) => numbers.indexOf(number) !== index)
      .map((number) => `statement ${number} is there twice`),
    ...numbers
      .filter((number) => number < 1 || number > statements)
      .map((number) => `there is no statement ${number}`),
    ...stale.map((number) => `statement ${number} is said to be not built yet, but is no open row`),
  ];
}

function judgeFacts(rows: readonly Row[], { factsAtMost }: TableRules): readonly string[] {
  const facts = rows.filter(({ kind }) => kind === 'fact').length;
  return facts > factsAtMost ? [`${facts} facts about other software, ${factsAtMost} are allowed`] : [];
}

/** A reason is a sentence, not a word. */
const REASON = /^.{20,}\.$/;

function judgeRow(row: Row, rules: TableRules): readonly string[] {
  const { number, section, statement, kind } = row;
  const problems = [...judgeKind(row, rules), ...judgeFiles(row, rules)];
  const chapter = rules.chapterOf(number);
  if (chapter !== undefined && section !== chapter && !section.startsWith(`${chapter}.`))
    problems.push(`is in section ${chapter}, not ${section}`);
  if (statement.length < 10) problems.push('does not say what is stated');
  if (kind !== 'proved' && row.tests.length > 0) problems.push(`is ${kind} and names a test all the same`);
  return problems.map((problem) => `statement ${number} ${problem}`);
}

function judgeKind({ number, kind, inDvflow, tests }: Row, rules: TableRules): string[] {
  switch (kind) {
    case 'proved':
      return tests.length === 0 ? ['is proved by no test'] : [];
    case 'fact':
      return REASON.test(inDvflow) ? [] : ['is a fact about other software for no reason'];
    case 'open':
      if (rules.notBuiltYet.has(number))
        return inDvflow.startsWith('Not built yet: ') ? [] : ['is open without saying "Not built yet: …"'];
      if (!rules.laterSubjects.has(number)) return ['is open, but of a subject that is to be full'];
      return REASON.test(inDvflow) ? [] : ['is open for no reason'];
    default:
      return [`is of kind "${kind}": proved, fact or open is meant`];
  }
}

function judgeFiles({ tests }: Row, { isTestFile }: TableRules): string[] {
  const twice = tests.filter(
    ({ file, title }, index) =>
      tests.findIndex((other) => other.file === file && other.title === title) !== index,
  );
  return [
    ...tests.filter(({ file }) => !isTestFile(file)).map(({ file }) => `names ${file}, no file of npm test`),
    ...twice.map(({ title }) => `names a test twice: ${title}`),
  ];
}
