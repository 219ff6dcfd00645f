"""AWS Signature Version 4, for the few requests to S3 that obstore does not offer.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
NO_BODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """An access key, and the region that its requests are for."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)  # of temporary credentials
    region: str


def query_of(parameters: Mapping[str, str]) -> str:
    """A query in the canonical form, which the signature covers."""
    return "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, value in sorted(parameters.items())
    )


def sign(method: str, url: str, credentials: Credentials, moment: datetime) -> dict[str, str]:
    """The headers that authorise a request without a body; `url` is in the canonical form."""
    parts, stamp = urlsplit(url), f"{moment:%Y%m%dT%H%M%SZ}"
    headers = {"host": parts.netloc, "x-amz-content-sha256": NO_BODY, "x-amz-date": stamp}
    if credentials.token is not None:
        headers["x-amz-security-token"] = credentials.token
    names = ";".join(headers)
    lines = [f"{name}:{value}" for name, value in headers.items()]
    canonical = "\n".join([method, parts.path, parts.query, *lines, "", names, NO_BODY])
    scope = f"{stamp[:8]}/{credentials.region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode(), "sha256")
    headers["authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names},"
        f" Signature={signature.hexdigest()}"
    )
    return headers
