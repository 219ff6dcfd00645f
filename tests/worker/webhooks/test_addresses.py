"""Public addresses, and DNS lookups that time out."""

import threading
import time

import pytest

from worker.webhooks import addresses
from worker.webhooks.addresses import (
    Unresolved,
    is_public,
    resolve,
    system_lookup,
)


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"],
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        # IPv4: this host, private, shared, loopback, link-local, protocol assignments, tests,
        # relays, benchmarks, multicast, reserved, broadcast, and clouds' metadata.
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
        *("127.0.0.1", "127.8.8.8", "169.254.0.1", "192.0.0.1", "192.0.2.1", "198.51.100.1"),
        *("203.0.113.1", "192.88.99.1", "198.18.0.1", "224.0.0.1", "239.255.255.250"),
        *("240.0.0.1", "255.255.255.255"),
        *("169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
        # IPv6: unspecified, loopback, link-local, site-local, unique local, multicast,
        # documentation, discard, not allocated.
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254"),
        *("ff02::1", "ff0e::1", "2001:db8::1", "3fff::1", "100::1", "4000::1", "5f00::1"),
        "2606:4700:4700::1111%eth0",
        # IPv4 inside IPv6: compatible, mapped, NAT64, 6to4, Teredo.
        *("::127.0.0.1", "::1.1.1.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
        *("::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::101:101"),
        *("2002:7f00:1::", "2002:a00:1::1", "2001:0:7f00:1::", "2001:0:101:101::80ff:fffe"),
        *("", "localhost", "1.1.1", "0x1.1.1.1", "1.1.1.1 "),
    ],
)
def test_no_other_address_is_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "2130706433", "127.1"])
def test_an_address_resolves_to_itself_however_it_is_written(host: str) -> None:
    assert resolve(system_lookup, host, 443, timeout_s=5) == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["", ".", "a..b", "a" * 64 + ".example", "no-such-host.invalid"])
def test_what_no_name_server_knows_is_not_resolved(host: str) -> None:
    def lookup(host: str, port: int) -> list[str]:
        return system_lookup(host, port) if host else []

    with pytest.raises(Unresolved, match="cannot be resolved"):
        resolve(lookup, host, 443, timeout_s=2)


def test_a_name_server_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "LOOKUPS", threading.BoundedSemaphore(2))
    answers = threading.Event()

    def hang(_host: str, _port: int) -> list[str]:
        answers.wait(10)
        return ["1.1.1.1"]

    started = time.monotonic()
    for _ in range(5):  # three of them exceed the limit on lookup threads
        with pytest.raises(Unresolved):
            resolve(hang, "shop.example", 443, timeout_s=0.2)
    assert time.monotonic() - started < 1
    assert sum(thread.name == "lookup" for thread in threading.enumerate()) == 2
    answers.set()
    deadline = time.monotonic() + 5
    while any(thread.name == "lookup" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
    assert resolve(hang, "shop.example", 443, timeout_s=5) == ["1.1.1.1"]
