"""One attempt at a job: its lease, heartbeat, progress reports and commits."""
