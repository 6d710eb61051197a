/** What a command sees of the process; `process` itself is one. */
export interface Terminal {
  readonly env: NodeJS.ProcessEnv;
  cwd(): string;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown; readonly isTTY?: boolean | undefined };
}
