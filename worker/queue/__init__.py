"""Job delivery by RQ: queue, worker supervisor, work-horse, reconciler."""
