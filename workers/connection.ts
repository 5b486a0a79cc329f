import { Client, Connection } from '@temporalio/client';
import { loadClientConnectConfig } from '@temporalio/envconfig';
import { NativeConnection } from '@temporalio/worker';
import { createDialling } from '../client/tries.js';
import { SEARCH_ATTRIBUTES } from '../workflows/messages.js';
import { dataConverter } from './control/data-converter.js';

/** A worker's way to Temporal. */
export interface TemporalAccess {
  readonly connection: NativeConnection;
  readonly client: Client;
  readonly namespace: string;
  /** `host:port` as configured. */
  readonly address: string;
}

/** Connects as Temporal's own environment variables and profiles say (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, TLS, API key). */
export async function connectTemporal(): Promise<TemporalAccess> {
  const { connectionOptions, namespace = 'default' } = loadClientConnectConfig();
  const connection = await NativeConnection.connect(connectionOptions);
  const client = new Client({ connection, namespace, dataConverter });
  return { connection, client, namespace, address: connectionOptions.address ?? '127.0.0.1:7233' };
}

/** A client's way to Temporal. */
export interface TemporalReach {
  readonly client: Client;
  readonly close: () => Promise<void>;
}

/** As {@link connectTemporal}, for who runs no worker and serves others meanwhile: there at once, whether Temporal answers or not. */
export async function reachTemporal(): Promise<TemporalReach> {
  const { connectionOptions, namespace = 'default' } = loadClientConnectConfig();
  const { address } = connectionOptions;
  const { options, close } = await createDialling(connectionOptions);
  const connection = Connection.lazy({ ...options, ...(address === undefined ? {} : { address }) });
  return { client: new Client({ connection, namespace, dataConverter }), close: () => close(connection) };
}

/**
 * Makes sure that every search attribute is registered.
 * @throws Error with the command to run: an unregistered one would fail every workflow task
 */
export async function requireSearchAttributes({ connection, namespace }: TemporalAccess): Promise<void> {
  const registered = await connection.operatorService.listSearchAttributes({ namespace });
  const missing = Object.values(SEARCH_ATTRIBUTES)
    .map(({ name }) => name)
    .filter((name) => !registered.customAttributes?.[name]);
  if (missing.length === 0) return;
  const flags = missing.map((name) => `--name ${name} --type Keyword`).join(' ');
  throw new Error(
    `search attributes are not registered; run: temporal operator search-attribute create --namespace ${namespace} ${flags}`,
  );
}
