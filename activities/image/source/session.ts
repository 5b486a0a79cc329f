import type { SourceAgents } from './agents.js';
import type { OriginHeaders } from './origin.js';
import type { SourceNotice } from './types.js';

/** What the parts of one open source share. */
export interface Session {
  /** As the user named it. */
  readonly origin: URL;
  /** For messages: {@link Session.origin} without user info and query. */
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
  /** Counts bytes of bodies. */
  received(bytes: number): void;
}
