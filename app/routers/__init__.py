"""FastAPI routers, one module for each resource."""
