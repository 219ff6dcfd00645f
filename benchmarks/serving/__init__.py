"""Serving benchmark: POST /generate of this service against other model servers."""
