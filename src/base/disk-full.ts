/** Whether the system says that the disk, or a quota on it, is full. */
export function saysDiskFull(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOSPC" || error.code === "EDQUOT");
}
