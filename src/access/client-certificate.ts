/** What a client's certificate says about it. It was verified: issued by an authority of `server.tls.clientCa`, and in force. */
export interface ClientCertificate {
  /** As RFC 4514 writes it, the most specific part first: `CN=node1,OU=ci,O=Example`. */
  readonly subject: string;
  /** Of the subject, not escaped; undefined where it has none, or several. */
  readonly commonName: string | undefined;
  /** The alternative names with their kind in front, one an entry: `DNS:node1.example`, `URI:spiffe://example/ci`, `email:ci@example`. */
  readonly san: readonly string[];
  /** SHA-256 of the certificate: upper-case hexadecimal, a colon between bytes. */
  readonly fingerprint256: string;
}
