export type Closer = () => Promise<void>;

export type OnStop = (closer: Closer) => void;

/** What is to be closed, the last first. */
export function closers(): { readonly onStop: OnStop; closeAll(): Promise<void> } {
  const all: Closer[] = [];
  return {
    onStop: (closer) => all.push(closer),
    async closeAll() {
      const errors: unknown[] = [];
      for (let close = all.pop(); close !== undefined; close = all.pop()) {
        await close().catch((error: unknown) => errors.push(error));
      }
      if (errors.length > 0) throw new AggregateError(errors, "some parts of Weir could not be stopped in order");
    },
  };
}
