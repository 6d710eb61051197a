/** Loaded into a Weir by `--import`: at SIGUSR2 its clock is six minutes further, and it looks at everything anew, as at SIGHUP. */
const TURN_MS = 6 * 60_000;

const now = Date.now;
let aheadMs = 0;
Date.now = () => now() + aheadMs;
process.on("SIGUSR2", () => {
  aheadMs += TURN_MS;
  process.kill(process.pid, "SIGHUP");
});
