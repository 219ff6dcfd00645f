"""The job ledger: records in object storage, and their live view in Redis."""
