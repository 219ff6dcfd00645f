"""The SSRF guard: which URLs webhooks may be sent to."""

import pytest

from worker.schemas.webhook_request import MAX_URL, canonical
from worker.webhooks.addresses import Unresolved
from worker.webhooks.targets import NotPublic, TargetRefused, WebhookTargets

NAMES = {
    "shop.example": ["93.184.216.34", "2606:4700:4700::1111"],
    "half.example": ["93.184.216.34", "10.0.0.1"],
    "inside.example": ["10.0.0.1"],
    "xn--bcher-kva.example": ["93.184.216.34"],
}


def lookup(host: str, _port: int) -> list[str]:
    if host in NAMES:
        return NAMES[host]
    raise OSError(f"no such host: {host}")


def receivers(*, private: bool = False) -> WebhookTargets:
    return WebhookTargets(private=private, lookup=lookup)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://shop.example", "https://shop.example/"),
        ("HTTPS://SHOP.example:443/a?b=c", "https://shop.example/a?b=c"),
        ("https://shop.example./a", "https://shop.example/a"),
        ("https://shop.example.:8443/a", "https://shop.example:8443/a"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
        ("https:\\\\shop.example\\a", "https://shop.example/a"),
        ("https://shop.example/a\tb\n", "https://shop.example/ab"),
        ("http://2130706433/", "http://127.0.0.1/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://017700000001/", "http://127.0.0.1/"),
        ("https://①②⑦.0.0.1/", "https://127.0.0.1/"),
        ("https://127.0.0.1./", "https://127.0.0.1/"),
        ("https://0/", "https://0.0.0.0/"),
        ("https://[::FFFF:127.0.0.1]/", "https://[::ffff:7f00:1]/"),
    ],
)
def test_a_url_has_one_reading(written: str, meant: str) -> None:
    assert canonical(written) == meant
    assert canonical(meant) == meant


@pytest.mark.parametrize(
    ("url", "says"),
    [
        *((url, "https:// URL") for url in ("", "shop.example", "/hook", "https://", "ftp://a.b/")),
        *((url, "https:// URL") for url in ("file:///etc/passwd", "gopher://a.b/", "data:,a")),
        *((url, "https:// URL") for url in ("https://a b/", "https://a.b:99999/", "https://[::1")),
        *(
            (url, "https:// URL")
            for url in ("https://256.1.1.1/", "https://xn--/", "https://a%00b")
        ),
        ("https://me@shop.example/", "no user name"),
        ("https://me:secret@shop.example/", "no user name"),
        ("https://shop.example@127.0.0.1/", "no user name"),
        ("https://shop.example/#here", "no fragment"),
        ("https://shop.example/#", "no fragment"),
        ("https://shop.example/" + "a" * MAX_URL, "at most"),
        ("https://shop.example/" + "ü" * (MAX_URL // 3), "at most"),
    ],
)
def test_what_nothing_can_be_sent_to_is_no_receiver(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        canonical(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("host", ["shop.example", "xn--bcher-kva.example"])
def test_a_receiver_on_the_internet_is_allowed(host: str) -> None:
    receivers().check(f"https://{host}/hook")


@pytest.mark.parametrize("host", ["inside.example", "half.example"])
def test_every_address_of_a_receiver_must_be_public(host: str) -> None:
    with pytest.raises(NotPublic, match="public address"):
        receivers().check(f"https://{host}/hook")


def test_what_is_sent_must_be_encrypted() -> None:
    with pytest.raises(TargetRefused, match="https"):
        receivers().check("http://shop.example/hook")


def test_a_receiver_that_nobody_knows_is_refused() -> None:
    for private in (True, False):
        with pytest.raises(Unresolved):
            receivers(private=private).check("https://nowhere.example/")


def test_an_operator_may_allow_receivers_in_the_same_network() -> None:
    receivers(private=True).check("http://inside.example:8080/hook")
