"""One attempt: to real receivers, and to addresses that the SSRF guard refuses."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from app.webhooks.sender import Sender
from tests.receiver import receiving
from worker.webhooks.deliveries import DeliveryAttempt
from worker.webhooks.targets import WebhookTargets

PUBLIC = ["93.184.216.34"]
LOOPBACK = ["127.0.0.1"]


def post(sender: Sender, url: str) -> DeliveryAttempt:
    return anyio.run(sender.post, url, {"webhook-id": "msg_1"}, b'{"id": "job_1"}')


def private(answer_s: float = 10) -> Sender:
    return Sender(WebhookTargets(private=True), answer_s=answer_s)


@contextmanager
def speaking(speak: Callable[[socket.socket], None]) -> Iterator[str]:
    """A receiver that runs `speak` on a connection once something has arrived."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):  # the sender disconnects
            connection.recv(65536)
            speak(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        thread.join()


@pytest.mark.parametrize("status_code", [200, 204, 302, 404, 410, 429, 503])
def test_an_attempt_brings_a_status_code(status_code: int) -> None:
    with receiving(status_code) as receiver:
        attempt = post(private(), receiver.url)
    assert (attempt.status_code, attempt.error) == (status_code, None)
    [received] = receiver.received
    assert (received.path, received.body) == ("/hook", b'{"id": "job_1"}')
    assert received.headers["webhook-id"] == "msg_1"
    assert received.headers["host"] == f"127.0.0.1:{receiver.server_port}"


@pytest.mark.parametrize("status_code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status_code: int) -> None:
    with receiving() as elsewhere, receiving(status_code) as receiver:
        receiver.location = elsewhere.url
        assert post(private(), receiver.url).status_code == status_code
    assert len(receiver.received) == 1
    assert elsewhere.received == []


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        assert post(private(), receiver.url).status_code == 200
    assert proxy.received == []


def test_what_a_url_holds_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with receiving() as receiver:
        assert post(private(), f"{receiver.url}/a-secret").status_code == 200
    assert receiver.received[0].path == "/hook/a-secret"
    assert "a-secret" not in caplog.text


def test_a_slow_receiver_is_given_up() -> None:
    with receiving(pause_s=2) as receiver:
        started = time.monotonic()
        assert post(private(answer_s=0.3), receiver.url).error == "timed out"
        assert time.monotonic() - started < 1


def test_a_receiver_that_answers_byte_by_byte_has_no_more_time() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nx-slow: ")
        for _ in range(200):
            connection.sendall(b"a")
            time.sleep(0.02)

    started = time.monotonic()
    with speaking(drip) as url:
        assert post(private(answer_s=0.3), url).error == "timed out"
        assert time.monotonic() - started < 1


def test_nobody_there_is_told_from_nobody_answering() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert post(private(), f"http://127.0.0.1:{port}/").error == "refused"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 2000 OK\r\n\r\n"])
def test_what_is_no_answer_is_never_shown(answer: bytes) -> None:
    with speaking(lambda connection: connection.sendall(answer)) as url:
        attempt = post(private(), url)
    assert (attempt.status_code, attempt.error) == (None, "broken off")


def test_an_endless_answer_is_not_read() -> None:
    sent = 0

    def flood(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while sent < 2**30:
            sent += connection.send(b"100000\r\n" + b"a" * 2**20 + b"\r\n")

    with speaking(flood) as url:
        assert post(private(), url).status_code == 200
    assert sent < 2**24  # what the sockets' buffers hold


@pytest.mark.parametrize(
    "url",
    [
        *("https://127.0.0.1:{port}/", "https://[::1]:{port}/", "https://0.0.0.0:{port}/"),
        *("https://[::ffff:127.0.0.1]:{port}/", "https://localhost:{port}/"),
        *("https://2130706433:{port}/", "https://0x7f.1:{port}/"),
        *("https://[::]:{port}/", "https://169.254.169.254/latest/meta-data/"),
    ],
)
def test_nothing_is_sent_to_what_is_not_public(url: str) -> None:
    with receiving() as receiver:
        attempt = post(Sender(WebhookTargets(private=False)), url.format(port=receiver.server_port))
    assert (attempt.status_code, attempt.error) == (None, "not a public address")
    assert receiver.received == []


def test_nothing_is_sent_in_the_clear() -> None:
    sender = Sender(WebhookTargets(private=False, lookup=lambda _host, _port: LOOPBACK))
    with receiving() as receiver:
        assert post(sender, receiver.url).error == "not https"
    assert receiver.received == []


@pytest.mark.parametrize("later", [LOOPBACK, PUBLIC + LOOPBACK, ["::ffff:127.0.0.1"]])
def test_a_name_that_is_public_when_checked_and_private_when_sent_to_is_refused(
    later: list[str],
) -> None:
    answers = [PUBLIC, later]
    receivers = WebhookTargets(private=False, lookup=lambda _host, _port: answers.pop(0))
    with receiving() as receiver:
        url = f"https://rebinding.example:{receiver.server_port}/hook"
        receivers.check(url)
        assert post(Sender(receivers), url).error == "not a public address"
    assert receiver.received == []
    assert answers == []


def test_a_connection_goes_to_the_address_that_was_checked() -> None:
    asked = []

    def lookup(host: str, _port: int) -> list[str]:
        asked.append(host)
        return LOOPBACK

    with receiving() as receiver:
        sender = Sender(WebhookTargets(private=True, lookup=lookup))
        url = f"http://no-such-host.invalid:{receiver.server_port}/hook"
        assert post(sender, url).status_code == 200
    assert asked == ["no-such-host.invalid"]  # once: nothing is resolved after the check
    [received] = receiver.received
    assert received.headers["host"] == f"no-such-host.invalid:{receiver.server_port}"


def test_where_one_address_takes_no_connection_the_next_does() -> None:
    sender = Sender(
        WebhookTargets(private=True, lookup=lambda _host, _port: ["127.8.8.8", *LOOPBACK])
    )
    with receiving() as receiver:
        url = f"http://shop.example:{receiver.server_port}/hook"
        assert post(sender, url).status_code == 200


def test_a_name_that_is_gone_is_a_failed_attempt() -> None:
    sender = Sender(WebhookTargets(private=False, lookup=lambda _host, _port: []))
    assert post(sender, "https://gone.example/").error == "name not resolved"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for shop.example, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = (folder / "certificate.pem", folder / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example"),
            *("-out", str(files[0]), "-keyout", str(files[1])),
        ],
        check=True,
        capture_output=True,
    )
    return files


@pytest.mark.parametrize(
    ("host", "trusted", "outcome"),
    [
        ("shop.example", True, 200),
        ("shop.example", False, "tls"),
        ("other.example", True, "tls"),
        ("127.0.0.1", True, "tls"),
    ],
)
def test_the_name_is_verified_although_the_connection_goes_to_an_address(
    certificate: tuple[Path, Path], host: str, trusted: bool, outcome: int | str
) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*certificate)
    ours = ssl.create_default_context(cafile=certificate[0]) if trusted else None
    receivers = WebhookTargets(private=True, lookup=lambda _host, _port: LOOPBACK)
    with receiving(tls=theirs) as receiver:
        url = f"https://{host}:{receiver.server_port}/hook"
        attempt = post(Sender(receivers, tls=ours), url)
    assert outcome == (attempt.status_code or attempt.error)
    assert len(receiver.received) == (outcome == 200)


def test_plain_http_behind_https_is_a_failure_of_tls() -> None:
    with receiving() as receiver:
        url = receiver.url.replace("http://", "https://")
        assert post(private(), url).error == "tls"
