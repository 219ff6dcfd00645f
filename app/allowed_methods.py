"""Allowed methods of a path, for 405 answers and their `Allow` header.

Starlette reports the methods of the first matching route, but several routes may match a path.
"""

import re

from fastapi import FastAPI

TEMPLATE = re.compile(r"{\w+}")


def methods_of(app: FastAPI, path: str) -> list[str]:
    """Methods of all documented operations at a path; an exact match precedes templates."""
    documented = app.openapi()["paths"]
    templates = [path] if path in documented else [t for t in documented if _fits(path, t)]
    return sorted({method.upper() for template in templates for method in documented[template]})


def is_exact(app: FastAPI, path: str) -> bool:
    """Whether the path is documented literally, so that no part of it is a parameter."""
    return path in app.openapi()["paths"]


def _fits(path: str, template: str) -> bool:
    literals = TEMPLATE.split(template)
    return re.fullmatch("[^/]+".join(map(re.escape, literals)), path) is not None
