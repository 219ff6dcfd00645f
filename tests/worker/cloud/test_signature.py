"""Signature Version 4, against AWS's own client."""

import pytest

from tests.aws_signature import request_signature
from worker.cloud.signature import Credentials, query_of, sign
from worker.schemas.jobs import now

CREDENTIALS = Credentials(access_key="tests", secret_key="tests", region="us-east-1")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/bucket", {"uploads": "", "prefix": "a b/ü", "key-marker": "m/k~1"}),
        ("/bucket/datasets/%40x/images.zip", {"uploadId": "a+b/c=="}),
    ],
)
def test_a_request_is_signed_as_aws_signs_it(
    method: str, path: str, query: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"https://objects.example.com:8333{path}?{query_of(query)}"
    headers = sign(method, url, CREDENTIALS, now())
    expected = request_signature(method, url, headers["x-amz-date"], monkeypatch)
    assert headers["authorization"] == expected


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials(access_key="a", secret_key="hidden", token="hidden", region="r"))
    assert "hidden" not in shown
