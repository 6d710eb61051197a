/**
 * Why a wait ends that nobody needs any more, for `AbortController.abort`: without a reason each makes an error of its own, with
 * a stack trace, which is more than all the rest of it costs.
 */
export const NO_MORE = new Error("nobody waits for it any more");
