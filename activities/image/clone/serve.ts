/** Serves a volume on the data port as long as its activity runs. */
import type { FileHandle } from 'node:fs/promises';
import { Context } from '@temporalio/activity';
import { permanentFailure } from '../../failures.js';
import { openSourceDisk, openSourceTree } from '../../node/source-volume.js';
import type { DataPort, DataPortResource } from '../../types/data-port.js';
import type { CloneNodeActivities, ServeInput } from '../../types/clone.js';
import type { Answers } from './serve-answers.js';
import { createTreeHandler } from './serve-tree.js';
import { createVolumeHandler } from './serve-volume.js';
import { servedUrl } from './volume-protocol.js';
import { createVolumeSource } from './volume-source.js';

/** The worker's heartbeats are sent on at most this often; the timeout is 10 s. */
const BEAT_MS = 1_000;

/** Activities by which a volume of this node, which remembers its pools in `memory`, is read by another one. */
export function createServeActivities(
  node: string,
  dataPort: DataPort | undefined,
  memory?: string,
): Pick<CloneNodeActivities, 'locateVolume' | 'serveVolume'> {
  function port(): DataPort {
    if (dataPort) return dataPort;
    throw permanentFailure('NodeUnavailable', `node ${node} has no data port`);
  }

  return {
    locateVolume: async ({ uid }) => ({ url: port().urlOf({ kind: 'volume', uid }) }),

    async serveVolume(input) {
      const context = Context.current();
      await using opened = await (input.contentType === 'archive' ? openSourceTree : openSourceDisk)(
        input.volume,
        memory,
      );
      // ended, and waited for, before what they read is closed
      await using answers = answersOf(input, opened);
      using resource = port().open(resourceOf(input, answers));
      if (resource.url !== servedUrl(input.url, input.generation))
        throw permanentFailure(
          'NodeUnavailable',
          `the data port of node ${node} has moved to ${resource.url}`,
        );
      const timer = setInterval(() => context.heartbeat(), BEAT_MS);
      try {
        context.heartbeat();
        await context.cancelled;
      } finally {
        clearInterval(timer);
      }
    },
  };
}

function answersOf({ volume, contentType, generation }: ServeInput, opened: FileHandle): Answers {
  if (contentType === 'archive') return createTreeHandler(opened, generation);
  const name = `PersistentVolume ${volume.volume} on node ${volume.node}`;
  const { fd } = opened;
  return createVolumeHandler((signal, flush) =>
    createVolumeSource({ fd, name, generation }, { signal, flush }),
  );
}

function resourceOf({ uid, generation }: ServeInput, { handle }: Answers): DataPortResource {
  return { kind: 'volume', uid: servedUrl(uid, generation), peers: ['dvflow-node'], handle };
}
