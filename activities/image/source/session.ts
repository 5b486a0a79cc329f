import type { IncomingHttpHeaders } from 'node:http';
import type { SourceValidators } from '../../types.js';
import type { SourceAgents } from './agents.js';
import type { OriginHeaders } from './origin.js';
import type { Entrance, Refusal, SourceNotice } from './types.js';

/** What the parts of one open source share. */
export interface Session {
  /** Where every way begins; see `SourceOptions.entrance`. */
  readonly entrance: (refusal?: Refusal) => Promise<Entrance>;
  /** Whether another entrance may open where one was refused. */
  readonly renewable: boolean;
  /** Address for messages: without user info and query. */
  readonly display: string;
  readonly headers: OriginHeaders;
  readonly agents: SourceAgents;
  /** Aborts with the caller's signal, and when the source is closed. */
  readonly signal: AbortSignal;
  readonly stallMs: number;
  readonly maxReconnects: number;
  /** First pause before a reconnect, in ms. */
  readonly backoffMs: number;
  readonly notice: SourceNotice;
  /** Set once the server has answered as no parser of the standard takes it; shared by all readers of the source. */
  readonly tolerance: { lenient: boolean };
  /** Set once a reader has delivered bytes: who waits then loses less than who begins anew. */
  readonly progress: { delivered: boolean };
  /** What one answer has to have in common with the others; see `SourceOptions.provedByDigest`. */
  readonly validatorsOf: (headers: IncomingHttpHeaders, length: number | undefined) => SourceValidators;
  /** Counts bytes of bodies. */
  received(bytes: number): void;
}
