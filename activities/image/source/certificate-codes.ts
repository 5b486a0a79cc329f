/**
 * Codes of `X509_verify_cert` and of Node's host name check. UNSPECIFIED is Node's for what OpenSSL has found since: keys and
 * digests that are too weak, which only its message names.
 */
const CERTIFICATE_CODES =
  /^(?:CERT_|ERR_TLS_CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_(?:GET_(?:ISSUER|CRL)|VERIFY_LEAF|DECRYPT|DECODE)|CRL_|ERROR_IN_C|HOSTNAME_MISMATCH|INVALID_(?:CA|PURPOSE)|PATH_LENGTH_EXCEEDED|UNSPECIFIED$)/u;

/** Whether an error's code says that the server is not the one that the user named. */
export function isCertificateCode(code: string): boolean {
  return CERTIFICATE_CODES.test(code);
}

/** RFC 8446 §6.2, in OpenSSL's words: the code is EPROTO where a write met the alert. Before TLS 1.3 it may be any failed handshake. */
const WANTING = /alert (?:certificate required|bad certificate)/u;

/** Whether a server has ended the handshake because it wants a certificate of its client: dvflow has none to show. */
export function wantsCertificate(error: Error): boolean {
  return WANTING.test(error.message);
}
