import type { DashboardSpec } from "./panel.ts";
import { PROCESSES, rateBy } from "./queries.ts";

const now = (metric: string): string => `sum by (instance) (${metric}{${PROCESSES}})`;

export const processes: DashboardSpec = {
  uid: "weir-process",
  title: "Weir / Process",
  description:
    "The processes themselves. Of an instance with several workers the sum of all, but for the event loop: there the mean.",
  panels: [
    {
      as: "stat",
      title: "Version",
      description: "Instances by the version of Weir and of Node that runs.",
      unit: "short",
      queries: [
        { expr: `sum by (version, node) (weir_build_info{${PROCESSES}})`, legend: "{{version}}, Node {{node}}" },
      ],
      runbook: "weirrestarting",
    },
    {
      as: "stat",
      title: "Up for",
      description: "Time since the process started; with workers, since their parent did.",
      unit: "s",
      queries: [
        { expr: `time() - max by (instance) (weir_process_start_time_seconds{${PROCESSES}})`, legend: "{{instance}}" },
      ],
      runbook: "weirrestarting",
    },
    {
      as: "stat",
      title: "Restarts",
      description: "Starts in the time shown, after the first.",
      unit: "short",
      queries: [
        {
          expr: `sum by (instance) (changes(weir_process_start_time_seconds{${PROCESSES}}[$__range]))`,
          legend: "{{instance}}",
        },
      ],
      thresholds: { warn: 1, alarm: 3 },
      runbook: "weirrestarting",
    },
    {
      as: "graph",
      title: "Processor",
      description: "Processors in use, of the machine's. Hashing goes to threads, so that one process can use several.",
      unit: "short",
      queries: [{ expr: rateBy("instance", "weir_process_cpu_seconds_total", PROCESSES), legend: "{{instance}}" }],
      runbook: "slow-answers",
    },
    {
      as: "graph",
      title: "Memory",
      description:
        "resident: all of it; heap: JavaScript's own; buffers: bodies on their way. Bounded whatever the number of clients.",
      unit: "bytes",
      queries: [
        { expr: now("weir_process_resident_memory_bytes"), legend: "resident {{instance}}" },
        { expr: now("weir_nodejs_heap_size_used_bytes"), legend: "heap {{instance}}" },
        { expr: now("weir_nodejs_external_memory_bytes"), legend: "buffers {{instance}}" },
      ],
      runbook: "weirrestarting",
    },
    {
      as: "graph",
      title: "Event loop",
      description: "How late the process comes to its work. Above 100 ms clients feel it.",
      unit: "s",
      queries: [
        { expr: `max by (instance) (weir_nodejs_eventloop_lag_p99_seconds{${PROCESSES}})`, legend: "p99 {{instance}}" },
        {
          expr: `max by (instance) (weir_nodejs_eventloop_lag_mean_seconds{${PROCESSES}})`,
          legend: "mean {{instance}}",
        },
      ],
      thresholds: { warn: 0.1, alarm: 0.5 },
      runbook: "slow-answers",
    },
    {
      as: "graph",
      title: "Open files",
      description: "Files and connections that are open, of those that the process may have.",
      unit: "percentunit",
      queries: [{ expr: `${now("weir_process_open_fds")} / ${now("weir_process_max_fds")}`, legend: "{{instance}}" }],
      thresholds: { warn: 0.7, alarm: 0.9 },
      runbook: "weirstoragetrouble",
    },
    {
      as: "graph",
      title: "Garbage collection",
      description: "Share of the time that is spent on it.",
      unit: "percentunit",
      queries: [
        {
          expr: rateBy("instance, kind", "weir_nodejs_gc_duration_seconds_sum", PROCESSES),
          legend: "{{kind}} {{instance}}",
        },
      ],
      runbook: "slow-answers",
    },
    {
      as: "graph",
      title: "Handles",
      description: "What keeps the process busy, by type: connections, timers, files.",
      unit: "short",
      queries: [
        {
          expr: `sum by (instance, type) (weir_nodejs_active_resources{${PROCESSES}})`,
          legend: "{{type}} {{instance}}",
        },
      ],
      runbook: "slow-answers",
    },
  ],
};
