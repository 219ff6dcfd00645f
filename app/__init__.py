"""The HTTP service: routes, status codes and limits."""
