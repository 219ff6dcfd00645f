"""Known answers: the signatures that botocore, AWS's own client, computes."""

from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


def presigned_signature(method: str, url: str, patch: pytest.MonkeyPatch) -> str:
    """The signature that a presigned URL should have, for the host that it names."""
    query = parse_qs(urlsplit(url).query)
    made = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ")
    patch.setattr(botocore.auth, "get_current_datetime", lambda: made)
    request = AWSRequest(method, url.partition("?")[0])
    botocore.auth.S3SigV4QueryAuth(
        Credentials("tests", "tests"), "s3", "us-east-1", int(query["X-Amz-Expires"][0])
    ).add_auth(request)
    return parse_qs(urlsplit(str(request.url)).query)["X-Amz-Signature"][0]


def request_signature(method: str, url: str, stamp: str, patch: pytest.MonkeyPatch) -> str:
    """The `Authorization` header that a request without a body should have."""
    made = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ")
    patch.setattr(botocore.auth, "get_current_datetime", lambda: made)
    request = AWSRequest(method, url, data=b"")
    botocore.auth.S3SigV4Auth(Credentials("tests", "tests"), "s3", "us-east-1").add_auth(request)
    return str(request.headers["Authorization"])
