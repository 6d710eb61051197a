/**
 * The tags under which signatures, attestations and other referrers are looked for, with every pull of an image that has
 * none: cosign's own, and the one that stands in for the referrers API (distribution-spec, "Referrers Tag Schema").
 */
const SIGNATURE_TAG = /^sha256-[0-9a-f]{64}(?:\.(?:sig|att|sbom))?$/;

/** How long it is remembered that there is none, where `freshness.negative` is shorter. */
const SIGNATURE_ABSENT_MS = 5 * 60 * 1000;

export function isSignatureTag(tag: string): boolean {
  return SIGNATURE_TAG.test(tag);
}

/** For how long the absence of a signature is remembered; milliseconds. */
export function signatureAbsentMs(negativeMs: number): number {
  return Math.max(negativeMs, SIGNATURE_ABSENT_MS);
}
