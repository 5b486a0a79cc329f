/** Web servers of all characters on loopback, for tests. */
export { createAuthority, createSelfSigned } from './certificates.js';
export type { TestAuthority } from './certificates.js';
export { bufferContent, bytesOf, digestOf, fileContent, sparseContent, writeContent } from './content.js';
export type { Content, SparseShape } from './content.js';
export { PAGE, startContentServer } from './content-server.js';
export type { Behaviour } from './content-server.js';
export { startFileServer, startTlsServer } from './file-server.js';
export type { FileServer, FileServerOptions } from './file-server.js';
export {
  startEndlessHeaderServer,
  startNoiseServer,
  startRedirectServer,
  startResettingServer,
  startSilentServer,
  startStatusServer,
} from './odd-servers.js';
export { startProxyServer } from './proxy-server.js';
export type { ProxyOptions, ProxyServer } from './proxy-server.js';
export { startRawServer, startServer } from './server.js';
export type { Handler, ListenOptions, RunningServer, SeenRequest, ServerTls } from './server.js';
