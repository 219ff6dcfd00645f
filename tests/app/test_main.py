"""`python -m app`: what its server is configured to believe."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.service import Service
from worker.settings import Settings


@pytest.mark.parametrize(
    ("proxies", "codes"), [("", [200, 429, 429]), ("127.0.0.0/8", [200, 200, 200])]
)
def test_a_forwarded_address_counts_where_its_proxy_is_named(
    redis_url: str, tmp_path: Path, proxies: str, codes: list[int]
) -> None:
    urls = {"VITRINE_REDIS_URL": redis_url, "VITRINE_STORAGE_URL": f"file://{tmp_path}"}
    limits = {"VITRINE_RATE_LIMIT": "1/hour", "VITRINE_FORWARDED_ALLOW_IPS": proxies}
    service = Service(urls | limits)
    try:
        service.wait_until_ready()
        answers = [
            service.client.get("/models", headers={"X-Forwarded-For": f"192.0.2.{number}"})
            for number in range(3)
        ]
        assert [answer.status_code for answer in answers] == codes
    finally:
        service.close()


@pytest.mark.parametrize("text", ["", "*", "10.0.0.0/8, ::1"])
def test_proxies_are_named_by_address_or_network(text: str) -> None:
    assert Settings(forwarded_allow_ips=text).forwarded_allow_ips == text


@pytest.mark.parametrize("text", ["proxy", "10.0.0.1/8", "10.0.0.1,", "*, 10.0.0.1"])
def test_other_names_of_proxies_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="forwarded_allow_ips"):
        Settings(forwarded_allow_ips=text)
