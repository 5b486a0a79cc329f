/** Codes of `X509_verify_cert` and of Node's host name check. */
const CERTIFICATE_CODES =
  /^(?:CERT_|ERR_TLS_CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_(?:GET_(?:ISSUER|CRL)|VERIFY_LEAF|DECRYPT|DECODE)|CRL_|ERROR_IN_C|HOSTNAME_MISMATCH|INVALID_(?:CA|PURPOSE)|PATH_LENGTH_EXCEEDED)/u;

/** Whether an error's code says that the server is not the one that the user named. */
export function isCertificateCode(code: string): boolean {
  return CERTIFICATE_CODES.test(code);
}
