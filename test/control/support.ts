/** A real Kubernetes API and a real Temporal server without any worker: what the watch starts stays where it was put. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { CoreV1Api, CustomObjectsApi, KubeConfig, setHeaderOptions } from '@kubernetes/client-node';
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, type LogEntry } from '@temporalio/worker';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import { stackDown, stackUp, type StackInfo } from '../../local/index.js';
import type { DataVolume } from '../../activities/kubernetes/objects.js';
import { startControl, type Control } from '../../workers/control/index.js';

const PLURAL = { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'datavolumes' } as const;

/** What tests of the watch use; its members are there once a `before` hook has run. */
export interface ControlStack {
  readonly info: StackInfo;
  readonly temporal: Client;
  readonly core: CoreV1Api;
  readonly namespace: string;
  readonly log: readonly LogEntry[];
  /** A watch with the rights of the control role; ended with the suite. */
  startWatch(options?: { relistMs?: number }): Promise<Control>;
  create(name: string, options?: CreateOptions): Promise<DataVolume>;
  find(name: string): Promise<DataVolume | undefined>;
  annotate(name: string, annotations: Record<string, string>): Promise<void>;
  setStatus(name: string, status: object): Promise<void>;
  remove(name: string): Promise<void>;
  /** Reasons of the events about a DataVolume. */
  events(uid: string): Promise<readonly string[]>;
}

export interface CreateOptions {
  readonly source?: object;
  /** Goes over everything else of the spec. */
  readonly spec?: object;
  readonly annotations?: Record<string, string>;
}

/** Starts a stack of its own for a suite. Called in the body of `describe`. */
export function useControlStack(): ControlStack {
  let info: StackInfo;
  let connection: Connection;
  let temporal: Client;
  let kubeConfig: KubeConfig;
  let core: CoreV1Api;
  let custom: CustomObjectsApi;
  let namespace = '';
  const controls: Control[] = [];
  const log: LogEntry[] = [];

  before('start Kubernetes and Temporal', async function () {
    this.timeout(180_000);
    const directory = mkdtempSync(join(tmpdir(), 'dvflow-control-'));
    info = await stackUp({ directory, ports: 'free', workers: false }, () => undefined);
    kubeConfig = as(info.kubeconfig, 'system:serviceaccount:dvflow:dvflow-control');
    const admin = new KubeConfig();
    admin.loadFromFile(info.kubeconfig);
    core = admin.makeApiClient(CoreV1Api);
    custom = admin.makeApiClient(CustomObjectsApi);
    connection = await Connection.connect({ address: info.temporalAddress });
    temporal = new Client({ connection });
    const made = await core.createNamespace({ body: { metadata: { generateName: 'team-' } } });
    namespace = made.metadata!.name!;
  });
  after('end Kubernetes and Temporal', async function () {
    this.timeout(60_000);
    await Promise.all(controls.map((control) => control.stop()));
    await connection?.close();
    if (info) await stackDown({ directory: info.directory, purge: true }, () => undefined);
  });

  async function find(name: string): Promise<DataVolume | undefined> {
    const read = custom.getNamespacedCustomObject({ ...PLURAL, namespace, name });
    return (await read.catch((error: { code?: number }) => {
      if (error.code === 404) return undefined;
      throw error;
    })) as DataVolume | undefined;
  }

  return {
    get info() {
      return info;
    },
    get temporal() {
      return temporal;
    },
    get core() {
      return core;
    },
    get namespace() {
      return namespace;
    },
    log,
    async startWatch({ relistMs } = {}) {
      const logger = new DefaultLogger('INFO', (entry) => log.push(entry));
      const control = await startControl({
        kubeConfig,
        client: temporal,
        logger,
        temporalNamespace: 'default',
        relistMs,
      });
      controls.push(control);
      await eventually('the watch is ready', async () => control.ready());
      return control;
    },
    async create(
      name,
      { source = { http: { url: 'http://user:pw@127.0.0.1:1/disk.img?sig=x' } }, annotations, spec } = {},
    ) {
      const body = {
        apiVersion: 'cdi.kubevirt.io/v1beta1',
        kind: 'DataVolume',
        metadata: { name, namespace, annotations },
        spec: { source, storage: { resources: { requests: { storage: '64Mi' } } }, ...spec },
      };
      const marked = Object.keys(annotations ?? {}).some((key) => key === 'dvflow.io/workflow-id');
      const options = marked ? setHeaderOptions('Impersonate-User', 'dvflow:temporal:default') : undefined;
      return (await custom.createNamespacedCustomObject(
        { ...PLURAL, namespace, body },
        options,
      )) as DataVolume;
    },
    find,
    async annotate(name, annotations) {
      const body = { metadata: { annotations } };
      const control = as(info.kubeconfig, 'system:serviceaccount:dvflow:dvflow-control');
      await control
        .makeApiClient(CustomObjectsApi)
        .patchNamespacedCustomObject({ ...PLURAL, namespace, name, body }, MERGE_PATCH);
    },
    async setStatus(name, status) {
      await custom.patchNamespacedCustomObjectStatus(
        { ...PLURAL, namespace, name, body: { status } },
        MERGE_PATCH,
      );
    },
    async remove(name) {
      await custom.deleteNamespacedCustomObject({ ...PLURAL, namespace, name });
    },
    async events(uid) {
      const { items } = await core.listNamespacedEvent({ namespace });
      return items
        .filter(({ involvedObject }) => involvedObject.uid === uid)
        .map(({ reason }) => reason ?? '');
    },
  };
}

/** The administrator's way in, as another user. */
function as(kubeconfig: string, user: string): KubeConfig {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  config.users = config.users.map((one) => ({ ...one, impersonateUser: user }));
  return config;
}

/** Polls until there is an answer that is neither `undefined` nor `false`. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined | false>,
  timeoutMs = 30_000,
): Promise<T> {
  const end = Date.now() + timeoutMs;
  for (let last: unknown; ;) {
    try {
      const found = await look();
      if (found !== undefined && found !== false) return found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end)
      assert.fail(
        `${what}: not within ${timeoutMs} ms${last instanceof Error ? `; last: ${last.message}` : ''}`,
      );
    await pause(100);
  }
}
