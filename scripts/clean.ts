import { rmSync } from "node:fs";

// A build starts from nothing, so that a deleted source file leaves no compiled one behind.
rmSync(new URL("../dist", import.meta.url), { recursive: true, force: true });
