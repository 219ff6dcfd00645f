"""Uploaded data sets: upload, bounded import, storage."""
