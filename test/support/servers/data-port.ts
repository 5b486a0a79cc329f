/** Stands in for a node's data port in tests of the gateway alone: real mTLS, the contract of `workers/data-port/`, a file as the disk. */
import { once } from 'node:events';
import { open, readFile, rm } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { TestAuthority } from './certificates.js';

/** How the stand-in treats the next bodies. */
export interface DataPortMood {
  /** Answers so, once this many bytes have come, without reading on. */
  refuse?: { readonly status: number; readonly body: object; readonly afterBytes: number } | undefined;
  /** Reads this slowly: so many ms before each chunk. */
  slowMs?: number;
  /** Breaks every connection, as a node that is away. */
  away?: boolean;
  /** Takes so long to judge a file that is whole, in ms. */
  judgeMs?: number;
  /** Cuts the connection after so many bytes. */
  cutAfterBytes?: number | undefined;
}

/** One session as the stand-in has it. */
export interface StandInSession {
  readonly path: string;
  durable: number;
  length?: number;
  complete: boolean;
}

/** A running stand-in. */
export interface StandInDataPort {
  /** `https://localhost:port/upload/<uid>` */
  readonly url: string;
  readonly sessions: Map<string, StandInSession>;
  /** Connections from whom no certificate of the authority came. */
  readonly strangers: number;
  readonly mood: DataPortMood;
  open(session: string, length?: number): StandInSession;
  content(session: string): Promise<Buffer>;
  close(): Promise<void>;
}

/** Starts it with a certificate of the authority; the files of sessions go into the directory. */
export async function startDataPort(authority: TestAuthority, directory: string): Promise<StandInDataPort> {
  const sessions = new Map<string, StandInSession>();
  const mood: DataPortMood = {};
  let strangers = 0;
  const server = createServer(
    {
      ...(await authority.issue(['localhost'])),
      ca: authority.ca,
      requestCert: true,
      rejectUnauthorized: false,
    },
    (request, response) => {
      void answer(request, response).catch((error: unknown) => response.destroy(error as Error));
    },
  );

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!(request.socket as TLSSocket).authorized) {
      strangers += 1;
      response.writeHead(401).end();
      return;
    }
    if (mood.away) return void request.socket.destroy();
    const { searchParams } = new URL(request.url ?? '', 'https://localhost');
    const session = sessions.get(searchParams.get('session') ?? '');
    if (!session) return void response.writeHead(404).end('{}');
    if (request.method === 'HEAD') {
      response.writeHead(200, { 'upload-offset': session.durable }).end();
      return;
    }
    await take(request, response, session);
  }

  async function take(
    request: IncomingMessage,
    response: ServerResponse,
    session: StandInSession,
  ): Promise<void> {
    const offset = Number(request.headers['upload-offset']);
    if (offset !== session.durable) {
      const message = `the session is at ${session.durable}, not ${offset}`;
      const body = { type: 'UploadTargetInUse', message, offset: session.durable, retryable: true };
      return void response.writeHead(409).end(JSON.stringify(body));
    }
    const refusing = (): boolean => mood.refuse !== undefined && session.durable >= mood.refuse.afterBytes;
    const disk = await open(session.path, offset === 0 ? 'w' : 'r+');
    try {
      for await (const chunk of request.iterator({ destroyOnReturn: false })) {
        if (mood.slowMs) await new Promise((resolve) => setTimeout(resolve, mood.slowMs));
        await disk.write(chunk as Buffer, 0, (chunk as Buffer).length, session.durable);
        session.durable += (chunk as Buffer).length;
        if (mood.away) return void request.socket.destroy();
        if (mood.cutAfterBytes !== undefined && session.durable >= mood.cutAfterBytes)
          return void request.socket.destroy();
        if (refusing()) break;
      }
    } catch {
      // the gateway broke the connection: what is durable stays
      return;
    } finally {
      await disk.close();
    }
    const { refuse } = mood;
    // a connection that is cut at once would take the answer with it
    request.resume();
    if (mood.judgeMs && session.durable === session.length)
      await new Promise((resolve) => setTimeout(resolve, mood.judgeMs));
    if (refusing() && refuse) return void response.writeHead(refuse.status).end(JSON.stringify(refuse.body));
    if (session.length !== undefined && session.durable < session.length)
      return void response.writeHead(202, { 'upload-offset': session.durable }).end();
    session.complete = true;
    response.writeHead(200).end(JSON.stringify({ virtualSize: session.durable, bytes: session.durable }));
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `https://localhost:${(server.address() as AddressInfo).port}/upload/some-uid`,
    sessions,
    get strangers() {
      return strangers;
    },
    mood,
    open(session, length) {
      const known = sessions.get(session);
      if (known) return known;
      const path = `${directory}/${session}`;
      const made = { path, durable: 0, complete: false, ...(length === undefined ? {} : { length }) };
      sessions.set(session, made);
      return made;
    },
    content: async (session) => await readFile(`${directory}/${session}`),
    async close() {
      server.closeAllConnections();
      server.close();
      for (const { path } of sessions.values()) await rm(path, { force: true });
    },
  };
}
