/** Makes mutants of the workflows: for each step one without it, one with it swapped with its neighbour, one with another inserted. */
import { appendFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

/** One changed copy of `workflows/`. */
export interface Mutant {
  /** Entry of the bundle that holds it, below the directory of all: `index-3.ts`. */
  readonly entry: string;
  /** Export of the mutants' bundle: `importDataVolume__7`. */
  readonly exportName: string;
  readonly workflowType: string;
  /** For the test's title: `import-data-volume.ts:45 removed: control.deleteCredentials(...)`. */
  readonly title: string;
  /** Only a changed order of commands may refuse it; without a step's result the code may fail by itself. */
  readonly mustBeDeterminism: boolean;
}

interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
  readonly kind: 'removed' | 'timer before' | 'swapped with the next';
  readonly what: string;
  readonly line: number;
}

const workflows = fileURLToPath(new URL('../../workflows/', import.meta.url));

/** Files whose steps belong to more than one lifecycle are tried through each of these. */
const ENTRIES: Record<string, readonly string[]> = {
  'import-data-volume.ts': ['importDataVolume'],
  'blank-data-volume.ts': ['blankDataVolume'],
  'clone-data-volume.ts': ['cloneDataVolume'],
  'clone-source.ts': ['cloneDataVolume'],
  'clone-transfer.ts': ['cloneDataVolume'],
  'upload-data-volume.ts': ['uploadDataVolume'],
  'upload-desk.ts': ['uploadDataVolume'],
  'upload.ts': ['uploadDataVolume'],
  'upload-scratch.ts': ['uploadDataVolume'],
  'upload-claim.ts': ['uploadClaim'],
  'claim.ts': ['importDataVolume'],
  'publication.ts': ['importDataVolume'],
  'placement.ts': ['importDataVolume'],
  'offer.ts': ['provisionVolume'],
  'scratch.ts': ['importDataVolume'],
  'transfer.ts': ['importDataVolume'],
  'lifecycle.ts': ['importDataVolume'],
  'ending.ts': ['importDataVolume'],
  'static-volume.ts': ['importDataVolume'],
  'local-block-volume.ts': ['localBlockVolume'],
  'delete-local-block-volume.ts': ['deleteLocalBlockVolume'],
  'reclaim-volume.ts': ['reclaimVolume'],
  'provision-volume.ts': ['provisionVolume'],
  'publish-capacity.ts': ['publishCapacity'],
  'sweep.ts': ['sweep'],
  'return-reserved-volume.ts': ['returnReservedVolume'],
  'examine-nodes.ts': ['examineNodes'],
  'prepare-storage.ts': ['prepareStorage'],
  'preparation-run.ts': ['prepareStorage'],
  'prepare-round.ts': ['prepareStorage'],
  'prepare-nodes.ts': ['prepareStorage'],
  'recheck-node.ts': ['recheckNode'],
};

/** Mutants in one bundle: every replay loads the whole of it, so that the time for all grows with the square of this. */
const MUTANTS_A_BUNDLE = 48;

/** Entry of the bundle with the unchanged copy of every type. */
export const UNCHANGED = 'index-unchanged.ts';

/**
 * Writes all mutants and an unchanged copy below `directory`, with entries of bundles that export them, each with the unchanged type
 * of its first mutant besides. A mutant has its own copy of the changed file and of what leads to it from the workflow, and shares
 * everything else with the unchanged copy: whatever a replay loads, it loads anew.
 */
export function writeMutants(directory: string): readonly Mutant[] {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const mutants: Mutant[] = [];
  const homes = homesOfTypes();
  const sources = readWorkflows();
  writeFiles(join(directory, 'unchanged'), sources);
  const entryOf = (number: number): string => `index-${Math.floor(number / MUTANTS_A_BUNDLE)}.ts`;
  const exportInto = (entry: string, exportName: string, type: string, folder: string): void =>
    appendFileSync(
      join(directory, entry),
      `export { ${type} as ${exportName} } from './${folder}/${jsOf(homes.get(type) ?? '')}';\n`,
    );
  for (const [file, types] of Object.entries(ENTRIES)) {
    const source = sources.get(file) ?? '';
    for (const edit of editsOf(file, source)) {
      const number = mutants.length;
      const folder = `m${number}`;
      const changed =
        (edit.kind === 'timer before' ? IMPORT : '') +
        source.slice(0, edit.start) +
        edit.text +
        source.slice(edit.end);
      const own = types.flatMap((type) => pathsBetween(homes.get(type) ?? '', file, sources));
      writeFiles(join(directory, folder), copyOf(new Set(own), new Map(sources).set(file, changed)));
      for (const workflowType of types) {
        const exportName = `${workflowType}__${number}`;
        const entry = entryOf(number);
        exportInto(entry, exportName, workflowType, folder);
        mutants.push({
          entry,
          exportName,
          workflowType,
          title: `${file}:${edit.line} ${edit.kind}: ${edit.what}`,
          mustBeDeterminism: edit.kind === 'timer before',
        });
      }
    }
  }
  const unchanged = (entry: string, type: string): void =>
    exportInto(entry, `${type}__unchanged`, type, 'unchanged');
  for (const type of new Set(Object.values(ENTRIES).flat())) unchanged(UNCHANGED, type);
  for (const [entry, [first]] of Map.groupBy(mutants, (mutant) => mutant.entry))
    if (first) unchanged(entry, first.workflowType);
  return mutants;
}

/** File of each workflow type, as `workflows/index.ts` says. */
function homesOfTypes(): ReadonlyMap<string, string> {
  const index = readFileSync(join(workflows, 'index.ts'), 'utf8');
  return new Map(
    [...index.matchAll(/export \{ (\w+) \} from '\.\/([\w-]+)\.js'/g)].map(([, type = '', name = '']) => [
      type,
      `${name}.ts`,
    ]),
  );
}

const jsOf = (file: string): string => file.replace(/\.ts$/, '.js');

/** Texts of files, by their names. */
type Sources = ReadonlyMap<string, string>;

function readWorkflows(): Sources {
  return new Map(readdirSync(workflows).map((name) => [name, readFileSync(join(workflows, name), 'utf8')]));
}

function writeFiles(target: string, files: Sources): void {
  mkdirSync(target);
  for (const [name, text] of files) writeFileSync(join(target, name), text);
}

/** What a file names of its neighbours, types included. */
const NEIGHBOUR = /(?<=\bfrom ')\.\/([\w-]+)\.js(?=')/g;

/** Every file on a way from one to another by their imports, both included; only the latter where none leads there. */
function pathsBetween(from: string, to: string, sources: Sources): readonly string[] {
  const leads = new Set([to]);
  for (let before = 0; before < leads.size;) {
    before = leads.size;
    for (const [name, text] of sources)
      if ([...text.matchAll(NEIGHBOUR)].some(([, neighbour]) => leads.has(`${neighbour}.ts`)))
        leads.add(name);
  }
  const reached = new Set([from]);
  for (const name of reached)
    for (const [, neighbour] of (sources.get(name) ?? '').matchAll(NEIGHBOUR)) reached.add(`${neighbour}.ts`);
  const between = [...leads].filter((name) => reached.has(name));
  if (!between.includes(from)) throw new Error(`${from} does not lead to ${to}`);
  return between;
}

/** Copies of these files, which take all others from the unchanged copy beside them. */
function copyOf(own: ReadonlySet<string>, sources: Sources): Sources {
  const moved = (text: string): string =>
    text.replaceAll(NEIGHBOUR, (path, neighbour: string) =>
      own.has(`${neighbour}.ts`) ? path : `../unchanged/${neighbour}.js`,
    );
  return new Map([...own].map((name) => [name, moved(sources.get(name) ?? '')]));
}

/** A step is a call of an activity's proxy, or an entered phase or event of the lifecycle. */
const STEP =
  /^(?:control|asking|sweeping|publishing|claiming|inspecting|following|(?:probing|reserving|onNode|reclaiming|creating|finishing|cleaningUp|emptying|measuring|serving|transferring|preparing|labelling|sweepingOn)\([^)]*\))\s*\.\w+\($|^volume\.(?:enter|event)\($/;

/** Goes to the top of a file that gets a timer. */
const IMPORT = "import { sleep as insertedTimer } from '@temporalio/workflow';\n";

function editsOf(file: string, source: string): readonly Edit[] {
  const tree = ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true);
  const edits: Edit[] = [];
  visit(tree);
  return edits;

  function visit(node: ts.Node): void {
    if (ts.isCallExpression(node) && STEP.test(`${node.expression.getText().replace(/\s+/g, '')}(`))
      editsOfStep(node);
    ts.forEachChild(node, visit);
  }

  function editsOfStep(step: ts.CallExpression): void {
    const called = step.getText().replace(/\s+/g, ' ').slice(0, 60);
    const line = tree.getLineAndCharacterOfPosition(step.getStart()).line + 1;
    const at = { start: step.getStart(), end: step.getEnd(), line };
    edits.push({ ...at, text: '(Promise.resolve({}) as Promise<never>)', kind: 'removed', what: called });
    edits.push({
      ...at,
      text: `insertedTimer(1).then(() => ${step.getText()})`,
      kind: 'timer before',
      what: called,
    });
    const swap = swapWithNext(step);
    if (swap) edits.push({ ...swap, line, kind: 'swapped with the next', what: called });
  }

  function swapWithNext(step: ts.Node): Pick<Edit, 'start' | 'end' | 'text'> | undefined {
    // A step that is only registered (to be undone) runs later, whatever its neighbour does.
    if (!ts.isAwaitExpression(step.parent)) return undefined;
    let statement: ts.Node = step;
    while (!ts.isStatement(statement)) statement = statement.parent;
    if (!ts.isBlock(statement.parent)) return undefined;
    const siblings = statement.parent.statements;
    const next = siblings[siblings.indexOf(statement) + 1];
    // Only a step before another step changes the order of commands; a `const` cannot move past its use.
    if (
      !next ||
      !/await /.test(next.getText()) ||
      ts.isReturnStatement(next) ||
      ts.isVariableStatement(statement)
    )
      return undefined;
    const text = `${next.getText()}\n${statement.getText()}`;
    return { start: statement.getStart(), end: next.getEnd(), text };
  }
}
