import type Crypto from 'node:crypto';
import type Https from 'node:https';
import type Tls from 'node:tls';

/**
 * Node's own modules, as CommonJS sees them. An `import` of them builds an ES module's view, which evaluates every lazy getter
 * and with `WebSocket` loads undici: 30 ms of each transfer.
 */
export const http = process.getBuiltinModule('node:http');

// these bring OpenSSL's part of Node with them, 20 ms: only for sources that need it
/** `node:https`, loaded when it is asked for. */
export const https = (): typeof Https => process.getBuiltinModule('node:https');
/** `node:tls`, loaded when it is asked for. */
export const tls = (): typeof Tls => process.getBuiltinModule('node:tls');
/** `node:crypto`, loaded when it is asked for. */
export const crypto = (): typeof Crypto => process.getBuiltinModule('node:crypto');
