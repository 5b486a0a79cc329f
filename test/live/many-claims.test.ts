import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { provisionWorkflowId } from '../../workflows/task-queues.js';
import { useStack } from '../support/stack.js';
import { createPlainClaims, type PlainClaims } from './plain-claims.js';
import { createWorld, eventually, type World } from './world.js';

/** Claims at once; `DVFLOW_CLAIMS=200` for the figure in the documents. */
const COUNT = Number(process.env.DVFLOW_CLAIMS ?? 30);

describe(`${COUNT} plain claims at once`, function () {
  this.timeout(600_000);
  const stack = useStack();
  let world: World;
  let claims: PlainClaims;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    claims = createPlainClaims(stack, world, () => namespace);
    namespace = await world.createNamespace('many');
    await claims.ensureClass('plain-immediate');
  });

  it('all get their own volume, each by one run, none is refused, and all of them go again', async () => {
    const inventory = await world.inventory();
    const requests = await requestsTo();
    const startedAt = Date.now();
    const names = Array.from({ length: COUNT }, (_, index) => `many-${String(index).padStart(3, '0')}`);
    const made = await Promise.all(names.map((name) => claims.create(name, { storage: '1Mi' })));
    const createdMs = Date.now() - startedAt;
    const volumes = await eventually('all are Bound', 500_000, async () => {
      const { items } = await world.core.listNamespacedPersistentVolumeClaim({ namespace });
      const bound = items.filter(({ status }) => status?.phase === 'Bound');
      return bound.length === COUNT ? bound.map(({ spec }) => spec?.volumeName) : undefined;
    });
    const boundMs = Date.now() - startedAt;
    assert.equal(new Set(volumes).size, COUNT);
    for (const { uid } of made) await stat(`${stack.info.pool}/pvc-${uid}`);
    for (const claim of made)
      assert.equal(await claims.awaitClosed(provisionWorkflowId(claim), 300_000), 'COMPLETED');
    const calls = (await requestsTo()) - requests;
    let events = 0;
    for (const claim of made) {
      const history = await stack.temporal.workflow.getHandle(provisionWorkflowId(claim)).fetchHistory();
      events += history.events?.length ?? 0;
    }
    const removedAt = Date.now();
    await Promise.all(made.map((claim) => claims.remove(claim)));
    await world.assertUnchanged(inventory, 300_000);
    const { items } = await world.core.listNamespacedEvent({ namespace });
    const said = items
      .filter(({ reason }) => reason === 'ProvisioningFailed')
      .map(({ message }) => message ?? '');
    console.log(
      `      ${COUNT} claims: created in ${createdMs} ms, all Bound after ${boundMs} ms; ${(events / COUNT).toFixed(1)} history ` +
        `events and ${(calls / COUNT).toFixed(1)} API requests a claim; all gone ${Date.now() - removedAt} ms after deletion; ${said.length} had to ask twice`,
    );
    // a busy node may answer late, and then it is said; but there is room for all of them, and nobody is told otherwise
    assert.deepEqual(
      said.filter((message) => !message.includes('no node worker answers')),
      [],
    );
  });

  /** Requests that the API server has answered, whoever asked. */
  async function requestsTo(): Promise<number> {
    const metrics = await stack.kubectl(['get', '--raw', '/metrics']);
    return metrics
      .split('\n')
      .filter((line) => line.startsWith('apiserver_request_total{'))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }
});
