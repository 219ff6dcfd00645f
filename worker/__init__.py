"""The job system: what a job is, its queue, ledger, storage and registry, and running it."""
