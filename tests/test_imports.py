"""Import rules: app -> worker -> models -> torch, without cycles between the rooms of each."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "models": {"app", "worker", "fastapi", "rq", "redis", "obstore", "pydantic"},
    "worker": {"app", "fastapi"},
    "app": {"worker.tasks", "rq"},
}
# The rooms (folders, and modules beside them) of each package. A room imports only those before it,
# so that there are no cycles.
ROOMS = {
    "models": [
        *("progress", "imaging", "data", "networks", "inference", "cutouts"),
        *("training", "evaluation", "checkpoint", "classification", "card", "search"),
        *("idx", "pretrain", "evaluate", "backbones"),
    ],
    "worker": [
        *(
            "folder_files",
            "cloud",
            "storage",
            "damage",
            "revision_chain",
            "processes",
            "schemas",
            "webhooks",
            "settings",
            "logs",
        ),
        *(
            "devices",
            "embedded_valkey",
            "embedded",
            "ledger",
            "datasets",
            "registry",
            "attempt",
            "queue",
        ),
        *(
            "generation",
            "preparation",
            "imports",
            "training",
            "search",
            "tasks",
            "prune",
            "__main__",
        ),
    ],
    "app": [
        *(
            "allowed_methods",
            "errors",
            "error_handlers",
            "auth",
            "keys",
            "schemas",
            "metrics",
            "background",
            "event_stream",
        ),
        *(
            "docs",
            "middleware",
            "classification",
            "generation",
            "webhooks",
            "services",
            "dependencies",
        ),
        *("routers", "server", "main", "processes", "__main__"),
    ],
}
MOST_MODULES = 14  # of one folder
MODELS_MAY = {"torch", "numpy", "PIL", "pillow_heif", "isal", "safetensors", "models"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_package_imports_what_it_must_not_know(package: str) -> None:
    for path in sources(package):
        for name in imports(path):
            parts = name.split(".")
            prefixes = {".".join(parts[: end + 1]) for end in range(len(parts))}
            assert not prefixes & FORBIDDEN[package], f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_one_way(package: str) -> None:
    order = ROOMS[package]
    for path in sources(package):
        room = room_of(path.relative_to(ROOT / package))
        for name in imports(path):
            top, _, inner = name.partition(".")
            if top != package or room == "__init__":
                continue
            imported_room = inner.split(".")[0]
            where = f"{path.relative_to(ROOT)} imports {name}"
            assert imported_room == room or order.index(imported_room) < order.index(room), where


def room_of(path: Path) -> str:
    """The folder of a module in a package, or the module itself."""
    return path.parts[0].removesuffix(".py")


@pytest.mark.parametrize("package", [*FORBIDDEN, "tests", "benchmarks"])
def test_no_folder_holds_more_modules_than_one_can_overlook(package: str) -> None:
    sizes = Counter(
        path.parent for path in sources(package) if path.name not in ("__init__.py", "conftest.py")
    )
    crowded = {str(folder.relative_to(ROOT)): n for folder, n in sizes.items() if n > MOST_MODULES}
    assert not crowded


def test_models_run_where_only_torch_and_a_few_others_are_installed() -> None:
    for path in sources("models"):
        foreign = {name.split(".")[0] for name in imports(path)} - MODELS_MAY
        if path.name in ("successive_halving.py", "optuna_space.py"):
            foreign -= {"optuna"}  # needed by the search only
        if path.name == "engine_onnx.py":
            foreign -= {"onnxruntime"}  # needed for serving on a CPU only
        if path == ROOT / "models" / "backbones" / "originals.py":
            foreign -= {"onnx"}  # needed by the command that makes the backbones only
        assert foreign <= sys.stdlib_module_names, f"{path.relative_to(ROOT)} imports {foreign}"


def test_imports_stand_at_the_top_of_their_file() -> None:
    for package in FORBIDDEN:
        for path in sources(package):
            if path.name == "plotting.py":
                continue  # its imports are late, as it says
            tree = ast.parse(path.read_text())
            functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
            inner = [
                node
                for function in functions
                for node in ast.walk(function)
                if isinstance(node, ast.Import | ast.ImportFrom)
            ]
            assert not inner, f"{path.relative_to(ROOT)}:{inner[0].lineno if inner else 0}"


def test_the_worker_process_starts_without_torch() -> None:
    assert not imported("torch", by="worker.__main__")


def test_a_job_begins_before_anything_is_drawn() -> None:
    assert imported("torch", by="worker.tasks")
    assert not imported("matplotlib", by="worker.tasks")
    assert not imported("tensorboardX", by="worker.tasks")


def imported(module: str, *, by: str) -> bool:
    program = f"import sys, {by}; print({module!r} in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout == "True\n"
