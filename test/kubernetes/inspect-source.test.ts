import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createKubernetesActivities } from '../../activities/kubernetes/index.js';
import { MockActivityEnvironment } from '@temporalio/testing';
import type { SourceRequest } from '../../activities/image/source/types.js';
import type { ControlActivities } from '../../activities/interfaces.js';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import { createStatusActivities } from '../../activities/kubernetes/status.js';
import { createInspectActivities } from '../../activities/kubernetes/inspect-source.js';
import { permanentFailure, transientFailure } from '../../activities/failures.js';
import { createAttemptTeller } from '../../activities/kubernetes/attempts.js';
import { lifecycleWorkflowId } from '../../activities/kubernetes/names.js';
import { useControlPlane } from './support/control-plane.js';
import {
  act,
  createDataVolume,
  makeNamespace,
  manifest,
  refOf,
  rejects,
  rejectsForNow,
  TARGET,
} from './support/fixtures.js';

const BODY = Buffer.alloc(4 * 1024 ** 2, 'disk');

describe('inspectSource on a real API server', function () {
  this.timeout(30_000);
  const plane = useControlPlane();
  let server: Server;
  let url: string;
  let namespace: string;
  let inspectSource: ControlActivities['inspectSource'];

  before(async () => {
    inspectSource = withPolicy(['127.0.0.0/8']);
    server = createServer((request, response) => {
      const expected = `Basic ${Buffer.from('user:word').toString('base64')}`;
      if (request.headers.authorization !== expected) {
        response.writeHead(401).end();
        return;
      }
      const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
      const part = from === undefined ? BODY : BODY.subarray(Number(from), Number(to) + 1);
      const range = `bytes ${from}-${Number(from) + part.length - 1}/${BODY.length}`;
      response.writeHead(from === undefined ? 200 : 206, {
        'content-length': part.length,
        etag: '"1"',
        ...(from === undefined ? {} : { 'content-range': range }),
      });
      response.end(part);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/disk.raw`;
    namespace = await makeNamespace(plane().admin);
  });
  after(() => server.close());

  function withPolicy(allowed: readonly string[]): ControlActivities['inspectSource'] {
    const { control, temporal } = plane();
    const activities = createKubernetesActivities({
      kubeConfig: control,
      temporal,
      temporalNamespace: 'default',
      namespaces: { transfers: 'dvflow-transfers' },
      policy: { allowed, denied: [] },
    });
    return (input) => activities.inspectSource(input);
  }

  it("waits for the Secret, then looks with the DataVolume's credentials, where the policy allows it", async () => {
    const { admin } = plane();
    const source = { http: { url: `${url}?token=hunter2`, secretRef: 'basic' } };
    const dataVolume = refOf(await createDataVolume(admin, manifest(namespace, 'vm1', { source })));
    const input = { dataVolume, target: TARGET };
    assert.deepEqual(await act(inspectSource, [input]), { missing: [`Secret ${namespace}/basic`] });
    const wrong = { accessKeyId: 'user', secretKey: 'wrong' };
    await admin.core.createNamespacedSecret({
      namespace,
      body: { metadata: { name: 'basic' }, stringData: wrong },
    });
    await rejects(act(inspectSource, [input]), 'SourceForbidden');
    await plane().kubectl(
      'patch',
      'secret',
      'basic',
      '-n',
      namespace,
      '-p',
      '{"stringData":{"secretKey":"word"}}',
    );
    const facts = await act(inspectSource, [input]);
    assert.ok('format' in facts);
    assert.deepEqual(
      [facts.format, facts.virtualSize, facts.ranges, facts.displayUrl],
      ['raw', BODY.length, true, url],
    );
    await rejects(
      act(inspectSource, [{ ...input, target: { ...TARGET, usableBytes: 1024 ** 2 } }]),
      'LargerPVCRequired',
    );
    await rejects(act(withPolicy([]), [input]), 'SourceNotAllowed');
  });

  it('tells of each attempt that is followed by another one, in one event without a secret', async function () {
    this.timeout(60_000);
    const source = { http: { url: 'http://user:word@127.0.0.1:1/disk.raw?token=hunter2' } };
    const dataVolume = refOf(await createDataVolume(plane().admin, manifest(namespace, 'told', { source })));
    const told = async (): Promise<readonly unknown[]> => {
      const { items } = await plane().admin.core.listNamespacedEvent({ namespace });
      return items
        .filter(({ involvedObject }) => involvedObject.uid === dataVolume.uid)
        .map(({ type, reason, message, count }) => ({ type, reason, message, count }));
    };
    const input = { dataVolume, target: TARGET };
    const run = { workflowId: lifecycleWorkflowId(dataVolume) };
    // The probe itself takes a while to believe that nobody answers: once will do.
    await rejectsForNow(act(inspectSource, [input], run), 'SourceUnavailable');
    const [first] = (await told()) as { message: string }[];
    assert.match(first?.message ?? '', /127\.0\.0\.1.* \(attempt 1 of 10 failed, trying again\)$/);
    assert.doesNotMatch(first?.message ?? '', /word|hunter2/);
    const message = first?.message.replace(/ \(attempt.*/, '') ?? '';
    let failure = transientFailure('SourceUnavailable', message);
    const telling = createAttemptTeller(
      createStatusActivities({ kubernetes: createKubernetes(plane().control) }),
    );
    const again = telling('inspectSource', () => Promise.reject<never>(failure));
    for (const attempt of [1, 2])
      await rejectsForNow(act(again, [input], { ...run, attempt }), 'SourceUnavailable');
    const event = {
      type: 'Warning',
      reason: 'SourceUnavailable',
      message: `${message} (attempt 2 of 10 failed, trying again)`,
      count: 2,
    };
    assert.deepEqual(await told(), [event]);
    failure = permanentFailure('SourceUnavailable', message);
    await rejects(act(again, [input], { ...run, attempt: 10 }), 'SourceUnavailable');
    assert.deepEqual(await told(), [event], 'the workflow tells of the last attempt');
  });

  it('fails by what failed, also where that cannot be told, and tells of no failure that is not its own', async () => {
    const events: unknown[] = [];
    const telling = createAttemptTeller({
      recordStatus: ({ event }) => {
        events.push(event);
        return Promise.reject(transientFailure('KubernetesUnavailable', 'away'));
      },
    });
    const input = { dataVolume: { namespace, name: 'a', uid: 'b' } };
    const failing = (error: Error): Promise<never> =>
      act(
        telling('copyCredentials', () => Promise.reject<never>(error)),
        [input],
      );
    await rejectsForNow(failing(transientFailure('SourceUnavailable', 'no answer')), 'SourceUnavailable');
    const message = 'no answer (attempt 1 failed, trying again)';
    assert.deepEqual(events, [{ type: 'Warning', reason: 'SourceUnavailable', message }]);
    await assert.rejects(failing(new Error('who knows')), /who knows/);
    await rejects(failing(permanentFailure('SourceNotFound', 'gone')), 'SourceNotFound');
    assert.equal(events.length, 1);
  });
});

describe('inspectSource and a source that stays away', () => {
  const input = { dataVolume: { namespace: 'team', name: 'away', uid: 'u' }, target: TARGET };
  const request: SourceRequest = {
    kind: 'http',
    url: 'http://127.0.0.1:1/disk.raw',
    headers: [],
    secretHeaders: [],
    insecureSkipVerify: false,
  };

  const { inspectSource } = createInspectActivities({
    policy: { allowed: ['127.0.0.0/8'], denied: [] },
    readSourceRequest: () => Promise.resolve(request),
    patience: { limitMs: 50 },
  });
  const after = (inspections: number, attempt = inspections + 1) =>
    act(inspectSource, [input], { attempt, heartbeatDetails: { inspections } });

  it('gives it up at the tenth inspection', async () => {
    await rejectsForNow(after(8), 'SourceUnavailable');
    await rejects(after(9), 'SourceUnavailable', /\(given up after 10 attempts\)$/);
  });

  it('counts an attempt as soon as it begins, since it may be lost with its worker', async () => {
    const environment = new MockActivityEnvironment({ heartbeatDetails: { inspections: 3 } });
    const beats: unknown[] = [];
    environment.on('heartbeat', (details) => beats.push(details));
    await rejectsForNow(environment.run(inspectSource, input), 'SourceUnavailable');
    assert.deepEqual(beats, [{ inspections: 4 }]);
    await rejects(after(10), 'SourceUnavailable', /^the source of team\/away was inspected 10 times, /);
  });

  it('does not count one that Kubernetes was away for, and gives Kubernetes up never', async () => {
    await rejectsForNow(after(0, 99), 'SourceUnavailable');
    const nobody = createInspectActivities({
      policy: { allowed: [], denied: [] },
      readSourceRequest: () => Promise.reject(transientFailure('KubernetesUnavailable', 'away')),
    });
    await rejectsForNow(act(nobody.inspectSource, [input], { attempt: 99 }), 'KubernetesUnavailable');
  });
});
