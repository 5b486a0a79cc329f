import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { KubeConfig } from '@kubernetes/client-node';
import { startListWatch, type ListWatch, type WatchedObject } from '../../workers/control/list-watch.js';
import { freePort } from '../support/free-port.js';
import { eventually } from './support.js';

const object = (name: string, resourceVersion: string): WatchedObject => ({
  metadata: { namespace: 'a', name, uid: `uid-${name}`, resourceVersion },
});
const line = (type: string, of: unknown): string => `${JSON.stringify({ type, object: of })}\n`;

/** One answer to a watch; later watches stay open in silence. */
type Watched = (response: ServerResponse) => void;

interface FollowOptions {
  readonly relistMs?: number;
  readonly port?: number;
}

/** An API server that misbehaves on purpose: what it lists can be changed, what its watches say is scripted. */
describe('list-watch, against servers that misbehave', function () {
  this.timeout(30_000);
  let server: Server;
  let listed: WatchedObject[] = [];
  let script: Watched[] = [];
  let requests: URL[] = [];
  let following: ListWatch<WatchedObject> | undefined;
  let changes: string[] = [];

  function answer({ url = '/' }: IncomingMessage, response: ServerResponse): void {
    const asked = new URL(url, 'http://server');
    requests.push(asked);
    if (asked.searchParams.get('watch') !== 'true') {
      const page = Number(asked.searchParams.get('continue') ?? 0);
      const last = page + 1 >= listed.length;
      const metadata = { resourceVersion: '100', ...(last ? {} : { continue: String(page + 1) }) };
      return void response.end(JSON.stringify({ items: listed.slice(page, page + 1), metadata }));
    }
    const next = script.shift();
    if (next) next(response);
    else response.write(line('BOOKMARK', object('', '500')));
  }

  const lists = (): number => requests.filter(({ searchParams }) => !searchParams.has('watch')).length;

  function follow({ relistMs, port = (server.address() as AddressInfo).port }: FollowOptions = {}): void {
    const kubeConfig = new KubeConfig();
    // client-node speaks plain HTTP only to who asks for it so.
    kubeConfig.loadFromClusterAndUser(
      { name: 'c', server: `http://127.0.0.1:${port}`, skipTLSVerify: true },
      { name: 'u' },
    );
    following = startListWatch<WatchedObject>({
      kubeConfig,
      path: '/things',
      relistMs,
      logger: { warn: () => undefined, debug: () => undefined },
      changed: (key, { before, after }) =>
        changes.push(`${key} ${before ? 'was' : 'new'} ${after ? 'is' : 'gone'}`),
    });
  }

  beforeEach(async () => {
    [listed, script, requests, changes] = [[], [], [], []];
    server = createServer(answer);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  afterEach(async () => {
    await following?.stop();
    server.closeAllConnections();
    server.close();
  });

  it('reads every page of a list, then watches from its version', async () => {
    listed = [object('x', '1'), object('y', '2'), object('z', '3')];
    follow();
    await eventually('a watch', async () => requests.some(({ searchParams }) => searchParams.has('watch')));
    assert.deepEqual(
      following?.all().map(({ metadata }) => metadata.name),
      ['x', 'y', 'z'],
    );
    const watch = requests.at(-1)?.searchParams;
    assert.equal(watch?.get('resourceVersion'), '100');
    assert.equal(watch?.get('allowWatchBookmarks'), 'true');
  });

  it('goes on from the last version, bookmarks included, when a watch ends as watches do', async () => {
    script = [
      (response) => {
        response.write(line('ADDED', object('x', '101')));
        response.end(line('BOOKMARK', object('', '140')));
      },
    ];
    follow();
    const second = await eventually('a second watch', async () =>
      requests.filter(({ searchParams }) => searchParams.has('watch')).at(1),
    );
    assert.equal(second.searchParams.get('resourceVersion'), '140');
    assert.equal(lists(), 1);
    assert.ok(following?.get('a/x'));
  });

  const faults: Record<string, Watched> = {
    'says that the version is too old': (response) =>
      response.end(line('ERROR', { kind: 'Status', code: 410, reason: 'Expired' })),
    'answers 410': (response) => response.writeHead(410).end('{}'),
    'answers 500': (response) => response.writeHead(500).end('{}'),
    'answers 401': (response) => response.writeHead(401).end('{}'),
    'resets the connection': (response) => response.socket?.destroy(),
    'breaks off in the middle': (response) => {
      response.write('{"type":"ADD');
      setTimeout(() => response.socket?.destroy(), 50);
    },
  };
  for (const [name, fault] of Object.entries(faults)) {
    it(`lists again, and notices what went meanwhile, when a watch ${name}`, async () => {
      listed = [object('x', '1'), object('y', '2')];
      script = [
        (response) => {
          listed = [object('y', '2')];
          fault(response);
        },
      ];
      follow();
      await eventually('the end of x', async () => changes.includes('a/x was gone'));
      assert.equal(following?.get('a/x'), undefined);
      assert.ok(following?.get('a/y'));
    });
  }

  it('tells of every object at each periodic list, although the watch says nothing', async () => {
    listed = [object('x', '1')];
    follow({ relistMs: 300 });
    await eventually(
      'three lists',
      async () => changes.filter((change) => change === 'a/x was is').length >= 2,
    );
  });

  it('finds a server that comes late', async () => {
    const port = await freePort();
    listed = [object('x', '1')];
    follow({ port });
    await pause(500);
    server.close();
    server = createServer(answer).listen(port, '127.0.0.1');
    await once(server, 'listening');
    await eventually('a list', async () => following?.synced());
  });

  it('stays stopped', async () => {
    script = [(response) => response.socket?.destroy()];
    follow({ relistMs: 200 });
    await eventually('a list', async () => following?.synced());
    await following?.stop();
    // what was on its way when it stopped arrives
    await pause(1_000);
    const before = requests.length;
    await pause(1_500);
    assert.equal(requests.length, before);
  });
});
