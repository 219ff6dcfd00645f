"""The import job: an uploaded zip becomes a data set, without a client that waits."""
