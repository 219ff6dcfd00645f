"""Invariants of the container images and the Compose file."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.settings import Settings

ROOT = Path(__file__).parents[1]
SERVICES = ("api", "worker", "valkey", "objects")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services: dict[str, Any] = compose["services"]
    return services


@pytest.fixture(scope="module")
def stages() -> dict[str, str]:
    """The Dockerfile's text by stage name."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    parts = re.split(r"^FROM \S+ AS (\w+)$", dockerfile, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_compose_file_has_its_four_services(services: dict[str, Any]) -> None:
    assert set(services) == set(SERVICES)


@pytest.mark.parametrize("target", ["api", "worker"])
def test_an_image_runs_its_package_without_root(
    services: dict[str, Any], stages: dict[str, str], target: str
) -> None:
    assert services[target]["build"]["target"] == target
    assert re.findall(r"^USER (.+)$", stages[target], flags=re.MULTILINE) == ["10001:10001"]
    command = "app" if target == "api" else "worker"
    assert stages[target].rstrip().endswith(f'CMD ["python", "-m", "{command}"]')


def test_only_the_api_image_leaves_out_cuda(stages: dict[str, str]) -> None:
    assert "TORCH_INDEX_URL" in stages["api"]
    assert "TORCH_INDEX_URL" not in stages["worker"]
    assert "NVIDIA_VISIBLE_DEVICES=all" in stages["worker"]


def test_images_install_the_tested_versions_before_the_sources(stages: dict[str, str]) -> None:
    for target in ("api", "worker"):
        install = stages[target].index("pip install -c constraints.txt")
        assert install < stages[target].index("COPY models")
        assert "[dev]" not in stages[target]


def test_images_carry_the_licences_of_what_they_hold(stages: dict[str, str]) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {"!LICENSE", "!NOTICE"} <= set(ignored)
    for target in ("api", "worker"):
        assert "COPY LICENSE NOTICE ./" in stages[target]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_gets_no_more_rights_than_it_needs(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", ["valkey", "objects"])
def test_a_store_keeps_its_data_to_itself(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert re.fullmatch(r"[\w/]+:\d+(\.\d+)+", service["image"])
    assert service["volumes"] == [f"{name}:/data"]
    assert service["networks"] == ["stores"]
    assert not service["user"].startswith("0")
    assert "ports" not in service
    assert "healthcheck" in service


def test_valkey_persists_and_never_evicts(services: dict[str, Any]) -> None:
    command = " ".join(services["valkey"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_api_is_published_on_loopback_alone(services: dict[str, Any]) -> None:
    assert services["api"]["ports"] == ["127.0.0.1:8000:8000"]
    assert services["api"]["environment"]["VITRINE_PORT"] == "8000"


def test_the_worker_reserves_one_gpu(services: dict[str, Any]) -> None:
    reserved = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert reserved == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_environment_names_real_settings(services: dict[str, Any], name: str) -> None:
    settings = {f"VITRINE_{field.upper()}" for field in Settings.model_fields}
    used = {key for key in services[name]["environment"] if key.startswith("VITRINE_")}
    assert used >= {"VITRINE_REDIS_URL", "VITRINE_STORAGE_URL"}
    assert used <= settings


@pytest.mark.parametrize("name", ["api", "worker"])
def test_every_setting_in_the_env_file_reaches_its_container(
    services: dict[str, Any], name: str
) -> None:
    assert services[name]["env_file"] == ".env"
    fixed = {key for key in services[name]["environment"] if key.startswith("VITRINE_")}
    # Whatever the Compose file sets goes before the file: a user must know of it.
    example = (ROOT / ".env.example").read_text()
    required = {key for key in fixed if re.search(rf"^{key}=", example, re.MULTILINE)}
    assert all(f"${{{key}:?" in services[name]["environment"][key] for key in required)
    assert all(re.search(rf"\b{key}\b", example) for key in fixed)


def test_links_lead_to_the_api_unless_the_store_has_a_public_address(
    services: dict[str, Any],
) -> None:
    """The Compose file's name of the store means nothing to clients."""
    assert services["objects"]["networks"] == ["stores"]
    assert "ports" not in services["objects"]
    for name in ("api", "worker"):
        public = services[name]["environment"]["VITRINE_PUBLIC_STORAGE_URL"]
        assert public == "${VITRINE_PUBLIC_STORAGE_URL:-none}"


def test_containers_are_bounded_and_only_the_api_has_a_way_out(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["pids_limit"] == 1024
        assert re.fullmatch(r"\$\{\w+_MEMORY:-\d+g\}", service["mem_limit"])
    ways = {name: service["networks"] for name, service in services.items()}
    assert ways.pop("api") == ["default", "stores"]
    assert set(map(tuple, ways.values())) == {("stores",)}


def test_valkey_asks_for_a_password_that_its_clients_have(services: dict[str, Any]) -> None:
    command = services["valkey"]["command"]
    password = command[command.index("--requirepass") + 1]
    assert password.startswith("${VALKEY_PASSWORD:?")
    assert services["valkey"]["environment"]["VALKEYCLI_AUTH"] == password
    for name in ("api", "worker"):
        assert f":{password}@valkey" in services[name]["environment"]["VITRINE_REDIS_URL"]
    assert "\nVALKEY_PASSWORD=" in (ROOT / ".env.example").read_text()


def test_every_secret_is_required_and_explained(services: dict[str, Any]) -> None:
    example = (ROOT / ".env.example").read_text()
    for service in services.values():
        for key, value in service.get("environment", {}).items():
            if "KEY" in key:
                required = re.match(r"\$\{(\w+):\?", value)
                assert required, f"{key} may be empty"
                assert f"\n{required[1]}=" in example
