import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { SEARCH_ATTRIBUTES } from '../../workflows/messages.js';
import { freeBlock } from '../../local/ports.js';
import { findTools } from '../../local/tools.js';

/** A development server of Temporal with dvflow's search attributes, for the tests of one file. */
export interface TestServer {
  readonly address: string;
  readonly client: Client;
  close(): Promise<void>;
}

/** Starts a server on free ports of 127.0.0.1, with these settings of its own, and waits until it answers. */
export async function startTemporal(settings: Readonly<Record<string, number>> = {}): Promise<TestServer> {
  const [port, http, metrics] = await freeBlock(3);
  const address = `127.0.0.1:${port}`;
  const attributes = Object.values(SEARCH_ATTRIBUTES).flatMap(({ name }) => [
    '--search-attribute',
    `${name}=Keyword`,
  ]);
  const values = Object.entries(settings).flatMap(([name, value]) => [
    '--dynamic-config-value',
    `${name}=${value}`,
  ]);
  const ports = ['--port', `${port}`, '--http-port', `${http}`, '--metrics-port', `${metrics}`];
  const [file = '', ...leading] = (await findTools({ kubernetes: false, temporal: true }, () => undefined))
    .temporal;
  const server = spawn(
    file,
    [
      ...leading,
      'server',
      'start-dev',
      '--headless',
      '--log-level',
      'error',
      ...ports,
      ...attributes,
      ...values,
    ],
    {
      stdio: 'ignore',
    },
  );
  const connection = await connect(address, () => server.exitCode);
  return {
    address,
    client: new Client({ connection }),
    async close() {
      await connection.close();
      const ended = new Promise((resolve) => server.once('exit', resolve));
      server.kill('SIGTERM');
      await ended;
    },
  };
}

async function connect(address: string, exitCode: () => number | null): Promise<Connection> {
  for (let left = 100; ; left--) {
    try {
      const connection = await Connection.connect({ address, connectTimeout: 1_000 });
      await connection.workflowService.describeNamespace({ namespace: 'default' });
      return connection;
    } catch (error) {
      if (left === 0 || exitCode() !== null) throw error;
      await sleep(200);
    }
  }
}
