"""Webhooks: delivery state, signatures, and the SSRF guard of their targets."""
