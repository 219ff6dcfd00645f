"""S3 server process (moto), and the environment variables that point clients to it."""

import subprocess
import sys
import time

import boto3
from botocore.exceptions import EndpointConnectionError

from tests.service import free_port

BUCKET = "vitrine"
READY_S = 20.0


class S3Server:
    """moto's server, with one bucket."""

    def __init__(self) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
        )
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self.client.create_bucket(Bucket=BUCKET)
                break
            except EndpointConnectionError:
                assert time.monotonic() < deadline, "the S3 server did not start"
                time.sleep(0.2)

    def written(self, prefix: str) -> dict[str, tuple[str, str]]:
        """Modification time and ETag of each object below a prefix, by key."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {
            found["Key"]: (str(found["LastModified"]), found["ETag"])
            for page in pages
            for found in page.get("Contents", [])
        }

    def close(self) -> None:
        """Kill the server; its objects are lost."""
        self.client.close()
        self._process.kill()
        self._process.wait()


def s3_environment(port: int) -> dict[str, str]:
    """Environment variables that point a process to a server, or to a proxy in front of one."""
    return {
        "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
    }
