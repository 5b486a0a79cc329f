/** The data port of a worker: one mTLS server, on which activities serve what they have opened (`design.md` §3). */
import type { IncomingMessage, ServerResponse } from 'node:http';

/** Who may come, by the common name of its client certificate. */
export type DataPortPeer = 'dvflow-gateway' | 'dvflow-node';

/** What an activity serves while it is open. */
export interface DataPortResource {
  /** First part of the path: `/upload/<uid>`, `/volume/<uid>`. */
  readonly kind: 'upload' | 'volume';
  /** Second part of the path: uid of the DataVolume, or claim, that the transfer is for. */
  readonly uid: string;
  /** Whose requests are let in; all others get 403. */
  readonly peers: readonly DataPortPeer[];
  /**
   * Answers one request. The body is unread; there is no time limit on it. What it throws is answered as a failure if no answer has
   * begun, else the connection ends.
   */
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>;
}

/** A resource that is served until it is disposed; disposing ends no request that is under way. */
export interface OpenResource extends Disposable {
  /** `https://host:port/upload/<uid>`, as other processes reach it. */
  readonly url: string;
}

/** Serves the resources of one worker. */
export interface DataPort {
  /**
   * Begins to serve a resource; the same path opened again replaces what was open. A request that comes before its resource is
   * open waits some seconds for it.
   * @throws {@link FailureType} retried: `NodeUnavailable` where the port is not served (yet): no certificate, no address
   */
  open(resource: DataPortResource): OpenResource;
  /** Address that a resource has or will have. @throws as {@link open} */
  urlOf(resource: Pick<DataPortResource, 'kind' | 'uid'>): string;
}

/** What uploads ask of the data port besides: who waits there for a resource that is not open yet. */
export interface UploadPort extends DataPort {
  /** Sessions (`?session=`) whose requests wait for the resource. */
  waitingFor(resource: Pick<DataPortResource, 'kind' | 'uid'>): readonly string[];
  /**
   * Answers the requests that wait for the resource, and those of `session` that come within the next seconds: the resource will not
   * be opened for them.
   */
  refuse(resource: Pick<DataPortResource, 'kind' | 'uid'>, failure: DataPortFailure, session?: string): void;
}

/** Body of an answer that is not a success. */
export interface DataPortFailure {
  /** A {@link FailureType}. */
  readonly type: string;
  readonly message: string;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  /** Of an upload: offset of the next byte that is wanted. */
  readonly offset?: number;
}
