"""Settings from valid and invalid environments, and the error messages."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from pydantic import ValidationError

from worker.settings import Settings, explain


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Removes the VITRINE_ variables of this machine."""
    for field in Settings.model_fields:
        monkeypatch.delenv(f"VITRINE_{field.upper()}", raising=False)
    return monkeypatch


def complaint() -> str:
    with pytest.raises(ValidationError) as caught:
        Settings()
    return explain(caught.value)


def test_with_nothing_set_the_service_is_embedded_and_on_loopback() -> None:
    settings = Settings()
    assert settings.embedded
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.data_dir == Path(".vitrine")


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_environment_is_read(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("VITRINE_REDIS_URL", "redis://somewhere")
    environment.setenv("VITRINE_STORAGE_URL", "s3://bucket")
    environment.setenv("VITRINE_MAX_ATTEMPTS", "5")
    environment.setenv("VITRINE_UNHEARD_OF", "ignored")
    settings = Settings()
    assert not settings.embedded
    assert settings.max_attempts == 5


@pytest.mark.parametrize("name", ["VITRINE_REDIS_URL", "VITRINE_STORAGE_URL"])
def test_one_url_without_the_other_is_refused(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv(name, "redis://somewhere")
    assert complaint() == (
        "set both VITRINE_REDIS_URL and VITRINE_STORAGE_URL, or neither for embedded mode"
    )


def test_an_empty_variable_is_not_set(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("VITRINE_REDIS_URL", "")
    environment.setenv("VITRINE_PORT", "")
    assert Settings().embedded


def test_each_problem_is_one_line_that_names_the_variable(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("VITRINE_PORT", "70000")
    environment.setenv("VITRINE_LEASE_S", "inf")
    environment.setenv("VITRINE_LOG_LEVEL", "loud")
    lines = complaint().splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [
        "VITRINE_LEASE_S",
        "VITRINE_LOG_LEVEL",
        "VITRINE_PORT",
    ]


def test_a_complaint_shows_no_password(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("VITRINE_REDIS_URL", "http://:secret@somewhere")
    environment.setenv("VITRINE_STORAGE_URL", "s3://bucket")
    assert complaint().startswith("VITRINE_REDIS_URL: ")
    assert "secret" not in complaint()


def test_a_public_address_of_the_store_is_an_address_of_an_s3_store(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("VITRINE_REDIS_URL", "redis://somewhere")
    environment.setenv("VITRINE_STORAGE_URL", "gs://bucket")
    for address in ("https://objects.example.com", "objects.example.com", "https://a.b/path"):
        environment.setenv("VITRINE_PUBLIC_STORAGE_URL", address)
        assert "VITRINE_PUBLIC_STORAGE_URL" in complaint()
    environment.setenv("VITRINE_PUBLIC_STORAGE_URL", "none")
    assert Settings().public_storage_url == "none"
    environment.setenv("VITRINE_STORAGE_URL", "s3://bucket")
    environment.setenv("VITRINE_PUBLIC_STORAGE_URL", "https://objects.example.com:8333/")
    assert Settings().public_storage_url == "https://objects.example.com:8333/"


@pytest.mark.parametrize("text", ["video", "train,", "train,train", "train, generate"])
def test_a_worker_serves_known_queues_once_each(environment: pytest.MonkeyPatch, text: str) -> None:
    assert Settings().served_queues == ("generate", "train")
    environment.setenv("VITRINE_QUEUES", text)
    assert complaint() == "VITRINE_QUEUES: must be one or more of generate, train, comma-separated"
    environment.setenv("VITRINE_QUEUES", "train")
    assert Settings().served_queues == ("train",)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc] # the point


@pytest.mark.parametrize("package", ["app", "worker"])
def test_commands_say_what_they_are_and_start_nothing(package: str) -> None:
    def told(option: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", package, option], capture_output=True, text=True
        )

    assert told("--version").stdout == f"vitrine {version('vitrine')}\n"
    assert "VITRINE_REDIS_URL" in told("--help").stdout or package == "worker"
    assert "docs/operations.md" in told("--help").stdout
    wrong = told("--port")
    assert (wrong.returncode, "unrecognized arguments" in wrong.stderr) == (2, True)
