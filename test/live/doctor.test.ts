import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CustomObjectsApi } from '@kubernetes/client-node';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import type { Finding } from '../../cli/doctor/findings.js';
import { killProcess, startProcess } from '../../local/index.js';
import { projectPath } from '../docs/documents.js';
import { useStack } from '../support/stack.js';
import { recordHistory } from './record.js';

interface Report {
  readonly summary: Readonly<Record<'ok' | 'warning' | 'problem', number>>;
  readonly findings: readonly Finding[];
}

const SCHEDULE = 'dvflow-sweep';
const CLASS_PROVISIONER = 'kubevirt.io/hostpath-provisioner';

describe('dvflow doctor', function () {
  this.timeout(120_000);
  const stack = useStack();
  const undo: (() => Promise<unknown>)[] = [];

  afterEach(async () => {
    for (const one of undo.splice(0).reverse()) await one();
  });

  /** The program as an operator runs it, against this stack. */
  async function doctor(
    ...options: readonly string[]
  ): Promise<{ code: number; stdout: string; stderr: string }> {
    const env = {
      ...process.env,
      KUBECONFIG: stack.info.kubeconfig,
      TEMPORAL_ADDRESS: stack.info.temporalAddress,
    };
    return await new Promise((resolve) => {
      execFile(
        process.execPath,
        [projectPath('lib/cli/bundled/main.js'), 'doctor', ...options],
        { env },
        (error, stdout, stderr) => resolve({ code: Number(error?.code ?? 0), stdout, stderr }),
      );
    });
  }

  async function report(): Promise<Report & { code: number }> {
    const { code, stdout, stderr } = await doctor('--json');
    assert.ok(stdout.startsWith('{'), stderr);
    return { code, ...(JSON.parse(stdout) as Report) };
  }

  /** The finding about a subject. */
  function find({ findings }: Report, subject: string | RegExp): Finding {
    const found = findings.find((one) =>
      typeof subject === 'string' ? one.subject === subject : subject.test(one.subject),
    );
    assert.ok(found, `nothing about ${String(subject)} in ${findings.map((one) => one.subject).join(', ')}`);
    return found;
  }

  async function pool(path: string): Promise<void> {
    await stack.kubeConfig.makeApiClient(CustomObjectsApi).patchClusterCustomObject(
      {
        group: 'hostpathprovisioner.kubevirt.io',
        version: 'v1beta1',
        plural: 'hostpathprovisioners',
        name: 'hostpath-provisioner',
        body: { spec: { pathConfig: { path } } },
      },
      MERGE_PATCH,
    );
  }

  /** Takes away every class that is ours: other suites leave some. */
  async function withoutClasses(): Promise<void> {
    const { items } = JSON.parse(await stack.kubectl(['get', 'storageclass', '-o', 'json'])) as {
      items: (Record<string, unknown> & {
        provisioner: string;
        metadata: { name: string; annotations?: object };
      })[];
    };
    for (const { metadata, ...rest } of items.filter((one) => one.provisioner === CLASS_PROVISIONER)) {
      const { name, annotations } = metadata;
      await stack.kubectl(['delete', 'storageclass', name]);
      const input = JSON.stringify({ ...rest, metadata: { name, ...(annotations ? { annotations } : {}) } });
      undo.push(() => stack.kubectl(['create', '-f', '-'], { input }));
    }
  }

  async function killNodeWorker(): Promise<void> {
    killProcess(stack.info, 'worker-node');
    undo.push(() => startProcess(stack.info, 'worker-node'));
  }

  it('finds no problem on a healthy stack, and says what there is', async () => {
    const { findings, summary } = await report();
    // other suites leave DataVolumes that nobody serves
    const problems = findings.filter(({ level, area }) => level === 'problem' && area !== 'DataVolumes');
    assert.deepEqual(problems, []);
    assert.equal(findings.find(({ subject }) => subject === 'StorageProfiles')?.level, 'ok');
    const { code, stdout } = await doctor();
    assert.equal(code, summary.problem > 0 ? 1 : 0, stdout);
    for (const head of ['Temporal', 'Kubernetes', 'Workers', 'Nodes', 'Storage', 'DataVolumes'])
      assert.match(stdout, new RegExp(`^${head}$`, 'm'));
    assert.match(stdout, /^ {2}ok +server +Temporal 1\.\d+\.\d+ at 127\.0\.0\.1:\d+$/m);
    assert.match(stdout, /^ {2}ok +API server +Kubernetes v1\.\d+\.\d+ at https:/m);
    assert.match(stdout, /all \d+ are established and served as v1beta1 and v1alpha1/);
    // other suites end control workers, which Temporal remembers for minutes
    assert.match(stdout, /\d+ workers? answers?, dvflow \S+ on Node \d+/);
    assert.match(stdout, /room for .+ of .+, .+ promised to \d+ volume/);
    assert.match(stdout, /^\d+ ok, \d+ warnings?, \d+ problems?$/m);
    if (process.env.DVFLOW_SHOW_DOCTOR) console.log(stdout);
  });

  it('its question to the workers replays', async () => {
    await doctor('--json');
    for await (const { workflowId } of stack.temporal.workflow.list({
      query: "WorkflowType = 'examineNodes'",
    })) {
      await recordHistory(stack, workflowId, 'examineNodes.succeeded');
      return;
    }
    assert.fail('no run of examineNodes');
  });

  it('names everything that is broken at once, with the command that mends it', async () => {
    await stack.temporal.schedule.getHandle(SCHEDULE).pause('maintenance');
    undo.push(() => stack.temporal.schedule.getHandle(SCHEDULE).unpause());
    await withoutClasses();
    await stack.kubectl([
      'patch',
      'clusterrole',
      'dvflow-control',
      '--type=json',
      '-p',
      '[{"op":"remove","path":"/rules/0"}]',
    ]);
    undo.push(() =>
      stack.kubectl(['apply', '--server-side', '--force-conflicts', '-k', projectPath('deploy/rbac')]),
    );
    await stack.kubectl([
      'patch',
      'cdiconfig',
      'config',
      '--type=merge',
      '-p',
      '{"spec":{"scratchSpaceStorageClass":"nowhere"}}',
    ]);
    undo.push(() =>
      stack.kubectl([
        'patch',
        'cdiconfig',
        'config',
        '--type=json',
        '-p',
        '[{"op":"remove","path":"/spec/scratchSpaceStorageClass"}]',
      ]),
    );
    await killNodeWorker();

    const told = await report();
    assert.equal(told.code, 1);
    const paused = find(told, `schedule ${SCHEDULE}`);
    assert.deepEqual([paused.level, paused.found], ['problem', 'it is paused: maintenance']);
    assert.match(paused.todo ?? '', /temporal schedule toggle --unpause --schedule-id dvflow-sweep/);
    const node = find(told, `node ${stack.info.node}`);
    assert.equal(node.level, 'problem');
    assert.match(node.found, /its worker does not answer \(last seen \d+s ago\)/);
    assert.match(node.todo ?? '', /dvflow worker node/);
    const missing = find(told, 'StorageClass');
    assert.deepEqual(
      [missing.level, missing.todo],
      ['problem', 'kubectl apply -f deploy/examples/storage-class.yaml'],
    );
    assert.match(find(told, 'CDIConfig config').found, /scratchSpaceStorageClass names nowhere/);
    const rights = find(told, 'rights of dvflow/dvflow-control');
    assert.deepEqual([rights.level, rights.todo], ['problem', 'kubectl apply -k deploy/rbac']);
    assert.match(rights.found, /are missing: get datavolumes/);
    const { code, stdout, stderr } = await doctor();
    assert.equal(code, 1);
    assert.match(stdout, /→ temporal schedule toggle --unpause/);
    assert.match(stderr, /^dvflow: doctor: \d+ ok, \d+ warnings?, \d+ problems$/m);
    if (process.env.DVFLOW_SHOW_DOCTOR) console.log(stdout);
  });

  it('asks the nodes for their directories: a file in its place, a path that is none', async () => {
    const { pool: path } = stack.info;
    undo.push(() => pool(path));
    const place = join(tmpdir(), `dvflow-doctor-${process.pid}`);
    await mkdir(place);
    undo.push(() => rm(place, { recursive: true }));
    await writeFile(join(place, 'file'), '');
    const cases = [
      [join(place, 'file'), /ENOTDIR|not a directory/, /ls -ldZ .*file/],
      ['relative/pools', /not an absolute path below/, /kubectl edit hostpathprovisioner/],
    ] as const;
    for (const [wrong, found, todo] of cases) {
      await pool(wrong);
      const told = await report();
      assert.equal(told.code, 1);
      const finding = find(told, `${stack.info.node} ${wrong}`);
      assert.equal(finding.level, 'problem');
      assert.match(finding.found, found);
      assert.match(finding.todo ?? '', todo);
    }
  });

  it('tells a control worker that is gone, and does not judge what only it knows', async () => {
    killProcess(stack.info, 'worker-control');
    undo.push(() => startProcess(stack.info, 'worker-control'));
    const told = await report();
    const control = find(told, 'control');
    assert.equal(control.level, 'problem');
    assert.match(control.found, /no control worker answers \(last seen \d+s ago\)/);
    const node = find(told, `node ${stack.info.node}`);
    assert.deepEqual([node.level, /asked for work last seen/.test(node.found)], ['ok', true]);
    assert.match(find(told, 'pools').found, /not judged/);
  });

  it('says so when Temporal or Kubernetes is not there', async () => {
    const env = { ...process.env, KUBECONFIG: stack.info.kubeconfig, TEMPORAL_ADDRESS: '127.0.0.1:1' };
    const { code, stdout } = await new Promise<{ code: number; stdout: string }>((resolve) => {
      execFile(
        process.execPath,
        [projectPath('lib/cli/bundled/main.js'), 'doctor', '--json'],
        { env },
        (error, out) => resolve({ code: Number(error?.code ?? 0), stdout: out }),
      );
    });
    assert.equal(code, 1);
    const told = JSON.parse(stdout) as Report;
    assert.match(find(told, 'server').found, /does not answer: Temporal does not answer at 127\.0\.0\.1:1/);
    assert.equal(find(told, 'API server').level, 'ok');
  });
});
