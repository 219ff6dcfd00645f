"""Which methods a path takes. Starlette looks at the first route that fits, and several may."""

import re

from fastapi import FastAPI

TEMPLATE = re.compile(r"{\w+}")


def methods_of(app: FastAPI, path: str) -> list[str]:
    """The methods of all documented operations at a path; a path without parameters is exact."""
    documented = app.openapi()["paths"]
    templates = [path] if path in documented else [t for t in documented if _fits(path, t)]
    return sorted({method.upper() for template in templates for method in documented[template]})


def is_exact(app: FastAPI, path: str) -> bool:
    """Whether there are operations at this very path, whose last part is nobody's name."""
    return path in app.openapi()["paths"]


def _fits(path: str, template: str) -> bool:
    literals = TEMPLATE.split(template)
    return re.fullmatch("[^/]+".join(map(re.escape, literals)), path) is not None
