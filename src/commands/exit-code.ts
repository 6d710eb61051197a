/** What a command's exit code says (design section 8). */
export const EXIT = { ok: 0, failed: 1, usage: 2 } as const;
