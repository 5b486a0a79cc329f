import assert from 'node:assert/strict';
import { stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { METRICS, type MetricDefinition } from '../../workers/metrics/catalogue.js';
import { projectPath } from '../docs/documents.js';
import { alertRules, panels, selectorsOf } from '../support/monitoring.js';
import { promtool, startPrometheus, type Prometheus, type Sample } from '../support/prometheus.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';
import { makeImages, withBacking, type Images } from './images.js';
import { createWorld, eventually, type DataVolume, type World } from './world.js';

/** Grafana puts in what suits the width of the graph; this takes in the whole run. */
const RATE_INTERVAL = '15m';

describe('metrics of a run with failures in it, as a real Prometheus scrapes them', function () {
  this.timeout(180_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let prometheus: Prometheus;
  let namespace: string;
  const servers: FileServer[] = [];

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 48, dataMiB: 24 });
    namespace = await world.createNamespace('metrics');
    const { controlMetrics, nodeMetrics, gatewayMetrics } = stack.info.ports;
    prometheus = await startPrometheus(
      {
        control: `127.0.0.1:${controlMetrics}`,
        node: `127.0.0.1:${nodeMetrics}`,
        gateway: `127.0.0.1:${gatewayMetrics}`,
      },
      [projectPath('deploy/monitoring/alerts.yaml')],
    );
    // What happens before the first scrape is no increase.
    await eventually('the first scrapes', 30_000, async () => {
      const targets = await prometheus.targets();
      return [...targets.values()].every((health) => health === 'up') ? true : undefined;
    });
  });
  after(async () => {
    await prometheus?.close();
    await Promise.all(servers.map((server) => server.close()));
    await images?.remove();
  });

  async function serve(path: string, options: object = {}): Promise<FileServer> {
    const server = await startFileServer({ path, ...options });
    servers.push(server);
    return server;
  }

  async function hostileImage(): Promise<string> {
    const path = join(images.directory, 'hostile.qcow2');
    await writeFile(path, await withBacking(images));
    return path;
  }

  async function importFrom(name: string, http: object, phase: string): Promise<DataVolume> {
    const made = await world.createImport(namespace, name, http);
    await world.awaitPhase(namespace, name, phase, 60_000);
    return made;
  }

  /** Sum over all series of an expression, 0 where there are none. */
  async function sum(expression: string): Promise<number> {
    return (await prometheus.query(expression)).reduce((all, { value }) => all + value, 0);
  }

  /** Waits until Prometheus has seen it. */
  async function becomes(expression: string, value: number): Promise<void> {
    let seen = NaN;
    await eventually(`${expression} is ${value}`, 20_000, async () => {
      seen = await sum(expression);
      return seen === value ? true : undefined;
    }).catch((error: Error) => assert.fail(`${error.message}, but ${seen}`));
  }

  async function reaches(expression: string, least: number): Promise<void> {
    await eventually(`${expression} reaches ${least}`, 20_000, async () =>
      (await sum(expression)) >= least ? true : undefined,
    );
  }

  const failures = (type: string) =>
    `dvflow_workflow_failures_total{workflow_type="importDataVolume",type="${type}"}`;

  it('count the bytes of an import, its phases and its attempt', async () => {
    const path = await images.as('qcow2');
    const { size } = await stat(path);
    const before = await sum('dvflow_transfer_read_bytes_total{plan="ranged"}');
    for (const name of ['first', 'second']) {
      await importFrom(name, { url: (await serve(path)).url }, 'Succeeded');
      // a histogram shows an increase only once it is there
      await becomes('dvflow_active_transfers', 0);
    }
    await importFrom('in-one-pass', { url: (await serve(await images.as('raw.gz'))).url }, 'Succeeded');
    // what imports of other suites read meanwhile counts as well; that no byte counts twice is shown where there is one transfer alone
    await reaches('dvflow_transfer_read_bytes_total{plan="ranged"}', before + 1.9 * size);
    await reaches('dvflow_transfer_written_bytes_total', 3 * 24 * 1024 * 1024);
    await reaches('dvflow_transfer_read_bytes_total{plan="one-pass"}', 1);
    await reaches('dvflow_transfer_seconds_count{outcome="completed"}', 3);
    for (const phase of ['Pending', 'ImportScheduled', 'ImportInProgress'])
      await reaches(`dvflow_phase_seconds_count{phase="${phase}"}`, 3);
  });

  it('count failures by type, and a cancellation apart', async () => {
    const types = ['SourceNotFound', 'ChecksumMismatch', 'ImageHostile', 'Cancelled'] as const;
    const before = new Map<string, number>();
    for (const type of types) before.set(type, await sum(failures(type)));
    await importFrom('missing', { url: (await serve(images.raw, { status: 404 })).url }, 'Failed');
    const checksum = `sha256:${'0'.repeat(64)}`;
    await importFrom('wrong', { url: (await serve(images.raw)).url, checksum }, 'Failed');
    await importFrom('hostile', { url: (await serve(await hostileImage())).url }, 'Failed');
    const slow = await serve(images.raw, { bytesPerSecond: 200_000 });
    await importFrom('cancelled', { url: slow.url }, 'ImportInProgress');
    await becomes('dvflow_active_transfers', 1);
    await world.remove(namespace, 'cancelled');
    for (const type of types) await becomes(failures(type), (before.get(type) ?? 0) + 1);
    await reaches('dvflow_activity_failures_total{queue="transfer",type="ChecksumMismatch"}', 1);
    await reaches('dvflow_transfer_seconds_count{outcome="cancelled"}', 1);
    await becomes('dvflow_active_transfers', 0);
  });

  it('tell what a terminated run left, found and removed by the sweeper', async () => {
    const found = async (): Promise<number> => await sum('dvflow_leaked_objects_found_total');
    const before = await found();
    const slow = await serve(images.raw, { bytesPerSecond: 200_000 });
    const made = await importFrom('terminated', { url: slow.url }, 'ImportInProgress');
    const { uid, name } = made.metadata;
    await stack.temporal.workflow.getHandle(`datavolume/${namespace}/${name}/${uid}`).terminate('a test');
    slow.setRate(undefined);
    await world.awaitPhase(namespace, name, 'Failed', 60_000);
    await eventually('the sweeper counts', 60_000, async () => {
      await stack.temporal.workflow.execute('sweep', {
        taskQueue: 'dvflow',
        workflowId: `sweep-${Date.now()}`,
        args: [{}],
      });
      const [now, removed] = [await found(), await sum('dvflow_leaked_objects_removed_total')];
      return now > before && removed >= now ? true : undefined;
    });
    assert.ok(Date.now() / 1000 - (await sum('max(dvflow_sweep_end_timestamp_seconds)')) < 60);
    assert.equal(await sum('dvflow_sweep_silent_nodes'), 0);
  });

  it("tell the pool as the file system does, and its volumes' promises", async () => {
    const { pool, node } = stack.info;
    const { blocks, bsize } = await statfs(pool);
    const labels = `{node="${node}",pool="${pool}"}`;
    assert.equal(await sum(`dvflow_pool_capacity_bytes${labels}`), blocks * bsize);
    assert.equal(await sum(`dvflow_pool_usable${labels}`), 1);
    const shared = (await stat(pool)).dev === (await stat('/')).dev;
    assert.equal(await sum(`dvflow_pool_shared_with_os${labels}`), Number(shared));
    // renewed every 15 s
    const promised = `dvflow_pool_promises${labels}`;
    await eventually('the promises of the finished imports', 30_000, async () =>
      (await sum(promised)) >= 3 ? true : undefined,
    );
    assert.ok((await sum(`dvflow_pool_promised_bytes${labels}`)) >= 3 * 64 * 1024 * 1024);
    const room = await sum(`dvflow_pool_room_bytes${labels}`);
    assert.ok(room > 0 && room < blocks * bsize);
  });

  it('are just those of the catalogue: name, type, labels, role', async () => {
    const { controlMetrics, nodeMetrics, gatewayMetrics } = stack.info.ports;
    const served = new Set<string>();
    for (const [role, port] of [
      ['control', controlMetrics],
      ['node', nodeMetrics],
      ['gateway', gatewayMetrics],
    ] as const) {
      const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      // what is served under hostpath-provisioner's name has that project's labels
      await promtool(['check', 'metrics'], text.replace(/^(# \w+ )?kubevirt_.*\n/gm, ''));
      for (const [, name = '', type] of text.matchAll(/^# TYPE (dvflow_\w+) (\w+)$/gm)) {
        const definition: MetricDefinition | undefined = METRICS[name as keyof typeof METRICS];
        assert.equal(definition?.type, type, name);
        assert.ok(definition.roles.includes(role), `${name} of ${role}`);
        served.add(name);
      }
    }
    assert.deepEqual([...served].sort(), Object.keys(METRICS).sort());
    for (const { labels } of await prometheus.query('{__name__=~"dvflow_.+"}')) {
      const name = (labels.__name__ ?? '').replace(/_(bucket|sum|count)$/, '') as keyof typeof METRICS;
      const own = Object.keys(labels).filter(
        (label) => !['__name__', 'instance', 'job', 'le'].includes(label),
      );
      assert.deepEqual(own.sort(), [...METRICS[name].labels].sort(), name);
    }
  });

  describe('every panel of the dashboard shows something', () => {
    for (const { title, targets = [] } of panels()) {
      it(title, async () => {
        for (const { expr } of targets) {
          const samples = await prometheus.query(expr.replaceAll('$__rate_interval', RATE_INTERVAL));
          assert.ok(samples.length > 0, `${expr} is empty`);
          assert.ok(samples.some(isFigure), `${expr} has no figure: ${JSON.stringify(samples)}`);
        }
      });
    }
  });

  describe('every alert reads series that there are', () => {
    for (const { alert, expr } of alertRules()) {
      it(alert, async () => {
        await prometheus.query(expr);
        for (const selector of selectorsOf(expr))
          assert.ok((await prometheus.query(selector)).length > 0, `${selector} is empty`);
      });
    }
  });

  it('the alert of the hostile image fires, that of the control worker does not', async () => {
    const firing = async (name: string): Promise<readonly Sample[]> =>
      await prometheus.query(`ALERTS{alertname="${name}",alertstate="firing"}`);
    assert.equal((await firing('DvflowHostileImage')).length, 1);
    assert.deepEqual(await firing('DvflowControlDown'), []);
  });
});

function isFigure({ value }: Sample): boolean {
  return Number.isFinite(value);
}
