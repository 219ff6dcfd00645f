"""The HTTP server below ASGI: uvicorn's protocol with strict parsing, timeouts, a fast path."""
