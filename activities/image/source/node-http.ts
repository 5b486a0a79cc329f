/**
 * Node's own modules, as CommonJS sees them. An `import` of them builds an ES module's view, which evaluates every lazy getter
 * and with `WebSocket` loads undici: 30 ms of each transfer.
 */
export const http = process.getBuiltinModule('node:http');
export const https = process.getBuiltinModule('node:https');
