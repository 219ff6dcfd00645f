"""Webhook delivery: the background loop, and the HTTP client with its SSRF guard."""
