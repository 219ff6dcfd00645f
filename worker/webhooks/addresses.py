"""SSRF guard, its address part: public IP addresses, and DNS lookups with a timeout."""

import ipaddress
import queue
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

Lookup = Callable[[str, int], list[str]]
IPv4 = ipaddress.IPv4Address
IPv6 = ipaddress.IPv6Address

LOOKUP_TIMEOUT_S = 3.0
# A lookup cannot be cancelled: this bounds the threads that wait for name servers that hang.
LOOKUPS = threading.BoundedSemaphore(32)

# `is_global` is True for these in some of the supported Python versions.
NOT_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments; Oracle Cloud's metadata service is at 192.0.0.192
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure's platform service for virtual machines
    )
)
ALLOCATED_V6 = ipaddress.IPv6Network("2000::/3")  # all global unicast that IANA has allocated
DOCUMENTATION_V6 = ipaddress.IPv6Network("3fff::/20")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Unresolved(LookupError):
    """A host name has no address, or its name servers did not answer in time."""


def is_public(address: str) -> bool:
    """Whether this is a public unicast address: not private, loopback, link-local or reserved."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return _is_public_v4(parsed) if isinstance(parsed, IPv4) else _is_public_v6(parsed)


def system_lookup(host: str, port: int) -> list[str]:
    """Resolve a name by the operating system; an IP address resolves to itself.

    Raises:
        OSError: the name has no address.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def resolve(lookup: Lookup, host: str, port: int, timeout_s: float) -> list[str]:
    """The addresses of a host, at least one.

    Raises:
        Unresolved: there is none, or no answer within `timeout_s`.
    """
    answers: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def ask() -> None:
        found: list[str] = []
        # UnicodeError: a label of the name is empty or too long.
        with suppress(OSError, UnicodeError):
            found = lookup(host, port)
        LOOKUPS.release()
        answers.put(found)

    found: list[str] = []
    if LOOKUPS.acquire(blocking=False):
        # Not by a thread pool: the interpreter waits for a pool's threads when it exits.
        threading.Thread(target=ask, name="lookup", daemon=True).start()
        with suppress(queue.Empty):
            found = answers.get(timeout=timeout_s)
    if not found:
        raise Unresolved("its host name cannot be resolved")
    return found


def _is_public_v4(address: IPv4) -> bool:
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return not any(address in network for network in NOT_PUBLIC_V4)


def _is_public_v6(address: IPv6) -> bool:
    if address.scope_id is not None:
        return False
    if address in NAT64:  # the gateway forwards to the embedded IPv4 address
        return _is_public_v4(IPv4(int(address) & 0xFFFF_FFFF))
    if address.ipv4_mapped is not None:
        return _is_public_v4(address.ipv4_mapped)
    if not address.is_global or address.is_reserved or address.is_multicast:
        return False
    if address not in ALLOCATED_V6 or address in DOCUMENTATION_V6:
        return False
    inside = [address.sixtofour, *(address.teredo or ())]
    return all(_is_public_v4(each) for each in inside if each is not None)
