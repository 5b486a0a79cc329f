/** What is said of a server that answers no TLS, or none in which it can be spoken to. */
export const NO_TLS = 'server does not speak TLS';
const OLD_TLS = 'server speaks no TLS of version 1.2 or later';
const NO_HANDSHAKE = 'server ends the TLS handshake: it may want a client certificate, or other ciphers';

const CODES: Readonly<Record<string, string>> = {
  ERR_SSL_WRONG_VERSION_NUMBER: NO_TLS,
  ERR_SSL_PACKET_LENGTH_TOO_LONG: NO_TLS,
  ERR_SSL_UNSUPPORTED_PROTOCOL: OLD_TLS,
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: OLD_TLS,
};

/** What OpenSSL says where Node has no code for it but EPROTO. */
const WORDS: readonly (readonly [said: RegExp, cause: string])[] = [
  [/alert protocol version|unsupported protocol/u, OLD_TLS],
  [/wrong version number|packet length too long|http request/u, NO_TLS],
  [/alert handshake failure/u, NO_HANDSHAKE],
];

/** What went wrong with a TLS handshake, in words; `undefined` for an error that says nothing of one. */
export function tlsCause(code: string, message: string): string | undefined {
  return CODES[code] ?? WORDS.find(([said]) => said.test(message))?.[1];
}
