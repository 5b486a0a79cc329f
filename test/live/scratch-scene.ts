/** What tests of scratch space have in common: classes, images that need it, and eyes on dvflow's namespace. */
import { StorageV1Api, type V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import { startFileServer, type FileServer, type FileServerOptions } from '../support/servers/index.js';
import type { TestStack } from '../support/stack.js';
import { makeImages, type Images } from './images.js';
import { createWorld, eventually, type DataVolume, type World } from './world.js';

const MiB = 1 << 20;
export const TRANSFERS = 'dvflow-transfers';
/** The time within which somebody must be told what an import waits for. */
export const SAID_MS = 30_000;

/** A claim of mode Block, of a class whose volumes are made by hand. */
export const BLOCK = {
  storage: undefined,
  pvc: {
    storageClassName: 'local',
    volumeMode: 'Block',
    accessModes: ['ReadWriteOnce'],
    resources: { requests: { storage: '64Mi' } },
  },
};

/** A class that dvflow provisions beside the default one of the stack, and one that only pods could mount. */
const CLASSES = [
  ['scratch', 'kubevirt.io/hostpath-provisioner'],
  ['ceph', 'rbd.csi.ceph.com'],
] as const;

/** The scene of a suite; its members are there once the hooks have run. Called in the body of `describe`. */
export function useScratchScene(stack: TestStack, prefix: string): Scene {
  const scene = createScene();
  let watched: { stop(): void };
  before(async () => {
    const storage = stack.kubeConfig.makeApiClient(StorageV1Api);
    scene.world = createWorld(stack);
    scene.images = await makeImages({ sizeMiB: 48, dataMiB: 16 });
    scene.namespace = await scene.world.createNamespace(prefix);
    for (const [name, provisioner] of CLASSES)
      await storage.createStorageClass({ body: { metadata: { name }, provisioner } });
  });
  beforeEach(async () => {
    scene.seen = [];
    scene.inventory = await scene.world.inventory();
    // one for each test: where nothing happens for long, it ends
    watched = await stack.watch(`/api/v1/namespaces/${TRANSFERS}/persistentvolumeclaims`, (_, claim) => {
      scene.seen.unshift(claim as V1PersistentVolumeClaim);
    });
  });
  afterEach(() => watched.stop());
  after(async () => {
    await scene.configure(null);
    const storage = stack.kubeConfig.makeApiClient(StorageV1Api);
    for (const [name] of CLASSES) await storage.deleteStorageClass({ name });
    await Promise.all(scene.servers.map((server) => server.close()));
    await scene.images.remove();
  });
  return scene;
}

type Scene = ReturnType<typeof createScene>;

function createScene() {
  const scene = {
    world: undefined as unknown as World,
    images: undefined as unknown as Images,
    namespace: '',
    /** Before each test. */
    inventory: [] as readonly string[],
    /** Scratch claims as the test saw them, newest first. */
    seen: [] as V1PersistentVolumeClaim[],
    servers: [] as FileServer[],

    async serve(path: string, options: Omit<FileServerOptions, 'path'> = {}): Promise<FileServer> {
      const server = await startFileServer({ path, ...options });
      scene.servers.push(server);
      return server;
    },

    async configure(scratchSpaceStorageClass: string | null): Promise<void> {
      const config = { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'cdiconfigs', name: 'config' };
      await scene.world.custom.patchClusterCustomObject(
        { ...config, body: { spec: { scratchSpaceStorageClass } } },
        MERGE_PATCH,
      );
    },

    idOf: ({ metadata: { name, uid } }: DataVolume) => `datavolume/${scene.namespace}/${name}/${uid}`,

    scratchOf: async ({ metadata: { uid } }: DataVolume) =>
      await scene.world.claim(TRANSFERS, `prime-${uid}-scratch`),

    /** Until condition Running says so. */
    async said(name: string, reason: string, message: RegExp): Promise<DataVolume> {
      return await eventually(`${name}: ${reason}`, SAID_MS, async () => {
        const found = await scene.world.read(scene.namespace, name);
        const running = found && conditionOf(found, 'Running');
        return running?.reason === reason && message.test(running.message) ? found : undefined;
      });
    },

    /** Everything of a finished import but its claim and its volume is gone. */
    async assertOnlyTheDisk(name: string): Promise<void> {
      const { world, namespace, inventory } = scene;
      const uid = (await world.claim(namespace, name))?.metadata?.uid;
      const own = [`claim ${namespace}/${name}`, `volume pvc-${uid}`];
      const isPromise = (entry: string): boolean => entry.startsWith('pool .dvflow/promises/');
      await eventually('nothing but the disk', SAID_MS, async () => {
        const now = (await world.inventory()).filter((entry) => !inventory.includes(entry));
        const left = now.filter(
          (entry) => !own.includes(entry) && !entry.startsWith(`pool pvc-${uid}`) && !isPromise(entry),
        );
        return left.length === 0 && now.filter(isPromise).length === 1 ? true : undefined;
      });
    },

    /** An import from scratch space that is under way. */
    async transferring(name: string): Promise<{ made: DataVolume; server: FileServer }> {
      const server = await scene.serve(await scene.images.as('vmdk.gz'), { bytesPerSecond: MiB });
      const made = await scene.world.createImport(scene.namespace, name, { url: server.url });
      await eventually('bytes', 90_000, async () => (server.bytesSent() > 3 * MiB ? true : undefined));
      return { made, server };
    },
  };
  return scene;
}

export const conditionOf = ({ status }: DataVolume, of: string) =>
  status?.conditions?.find(({ type }) => type === of);
