"""Pydantic schemas of jobs and of client requests."""
