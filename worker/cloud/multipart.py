"""Multipart uploads to S3 that a process has begun and, killed, neither completed nor aborted.

Their parts take room, and are in no list of objects. obstore cannot list them.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

import httpx

from worker.cloud.signature import Credentials, query_of, sign

FOLDERS = ("datasets", "models", "jobs", "generated")  # where the service stores large objects
TIMEOUT_S = 10.0


class _Upload(NamedTuple):
    key: str
    upload_id: str
    begun_at: datetime


class MultipartUploads:
    """The multipart uploads below a prefix of one bucket."""

    def __init__(self, bucket_url: str, prefix: str, credentials: Credentials) -> None:
        self.bucket_url = bucket_url
        self.prefix = prefix  # empty, or with a slash at its end
        self.credentials = credentials

    @classmethod
    def open(cls, url: str, environment: Mapping[str, str]) -> "MultipartUploads | None":
        """Those of an `s3://bucket/prefix` URL; None where no access key is in the environment."""
        scheme, _, place = url.partition("://")
        access_key = environment.get("AWS_ACCESS_KEY_ID")
        secret_key = environment.get("AWS_SECRET_ACCESS_KEY")
        if scheme != "s3" or not access_key or not secret_key:
            return None
        bucket, _, prefix = place.strip("/").partition("/")
        region = _first(environment, "AWS_REGION", "AWS_DEFAULT_REGION") or "us-east-1"
        credentials = Credentials(
            access_key=access_key,
            secret_key=secret_key,
            token=environment.get("AWS_SESSION_TOKEN"),
            region=region,
        )
        named = _first(environment, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
        endpoint = (named or f"https://s3.{region}.amazonaws.com").rstrip("/")
        with_bucket = named and environment.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST") == "true"
        bucket_url = endpoint if with_bucket else f"{endpoint}/{bucket}"
        return cls(bucket_url, f"{prefix}/" if prefix else "", credentials)

    def abort_older(self, age: timedelta) -> int:
        """Abort those that were begun longer ago; returns their number.

        Raises:
            ConnectionError: the store does not answer, or refuses.
        """
        limit, aborted = datetime.now(UTC) - age, 0
        with httpx.Client(timeout=TIMEOUT_S) as client:
            for folder in FOLDERS:
                for upload in list(self._listed(client, f"{self.prefix}{folder}/")):
                    if upload.begun_at < limit:
                        self._send(client, "DELETE", {"uploadId": upload.upload_id}, upload.key)
                        aborted += 1
        return aborted

    def _listed(self, client: httpx.Client, prefix: str) -> Iterator[_Upload]:
        markers: dict[str, str] = {}
        while True:
            answer = self._send(client, "GET", {"uploads": "", "prefix": prefix, **markers})
            page = ElementTree.fromstring(answer)
            for found in page.iterfind("{*}Upload"):
                key, upload_id, begun = (
                    found.findtext(f"{{*}}{name}", "") for name in ("Key", "UploadId", "Initiated")
                )
                if key.startswith(prefix):
                    yield _Upload(key, upload_id, datetime.fromisoformat(begun))
            if page.findtext("{*}IsTruncated") != "true":
                return
            markers = {
                "key-marker": page.findtext("{*}NextKeyMarker", ""),
                "upload-id-marker": page.findtext("{*}NextUploadIdMarker", ""),
            }

    def _send(
        self, client: httpx.Client, method: str, parameters: Mapping[str, str], key: str = ""
    ) -> bytes:
        path = f"/{quote(key, safe='/-_.~')}" if key else ""
        url = f"{self.bucket_url}{path}?{query_of(parameters)}"
        headers = sign(method, url, self.credentials, datetime.now(UTC))
        try:
            answer = client.request(method, url, headers=headers)
        except httpx.HTTPError as error:
            raise ConnectionError("the store does not answer") from error
        if answer.status_code == httpx.codes.NOT_FOUND and method == "DELETE":
            return b""  # completed or aborted meanwhile
        if answer.is_error:
            raise ConnectionError(f"the store answers {answer.status_code}")
        return answer.content


def _first(environment: Mapping[str, str], *names: str) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)
