"""Bad inputs and what they get: a row for each, named as in the reliability requirements."""

import io
import json
import struct
import zipfile
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from tests.models.data.test_archive import encrypted, named, overlapping, symlink
from tests.models.data.test_photos_hostile import png_header
from tests.models.pictures import saved, two_tone
from worker.datasets.datasets import DatasetStore
from worker.registry.bundled_models import SAMPLE_ARCHIVE, SAMPLE_DATASET, add_sample_dataset
from worker.registry.registry import Registry
from worker.storage import Storage

JSON = {"Content-Type": "application/json"}
NO_JOB = "job_00000000000000000000"
NO_DATASET = "ds_00000000000000000000"
MODEL = "/models/fashion-mnist"
LIMIT = {"metric": "latency_ms"}


@dataclass(frozen=True)
class Row:
    """One request and its answer."""

    name: str
    status: int
    code: str
    method: str
    url: str
    arguments: dict[str, Any] = field(default_factory=dict)
    says: str = ""  # what the detail must hold


def generate(row_name: str, code: str = "invalid_request", says: str = "", **body: object) -> Row:
    return Row(row_name, 422, code, "POST", "/generate", {"json": body}, says)


def raw(row_name: str, status: int, code: str, content: bytes, **headers: str) -> Row:
    names = {key.replace("_", "-"): value for key, value in headers.items()}
    arguments = {"content": content, "headers": JSON | names}
    return Row(row_name, status, code, "POST", "/generate", arguments)


def train(row_name: str, says: str = "", **changes: object) -> Row:
    body = {"dataset": SAMPLE_DATASET, "model": "shoes", "batch_size": 8, **changes}
    return Row(row_name, 422, "invalid_request", "POST", "/jobs/train", {"json": body}, says)


def nas(row_name: str, says: str = "", **changes: object) -> Row:
    body = {"dataset": SAMPLE_DATASET, "model": "shoes", **changes}
    return Row(row_name, 422, "invalid_request", "POST", "/jobs/nas", {"json": body}, says)


def upload(row_name: str, status: int, code: str, archive: bytes, **form: str) -> Row:
    arguments = {"files": {"file": ("a.zip", archive)}, "data": form}
    return Row(row_name, status, code, "POST", "/datasets", arguments)


def get(name: str, status: int, code: str, url: str, **headers: str) -> Row:
    return Row(name, status, code, "GET", url, {"headers": headers})


def zipped(*members: tuple[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", packing) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


def many_members(count: int) -> bytes:
    """A zip whose directory lists `count` files, none of which it contains."""
    entries = (b"PK\x01\x02" + bytes(24) + b"\1" + bytes(17) + b"a") * count
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 65535, 65535, len(entries), 0, 0)
    return entries + end


PHOTO = b"\x89PNG\r\n\x1a\n not a photo"

ANY_ROUTE = [
    get("3 unknown job", 404, "job_not_found", f"/jobs/{NO_JOB}"),
    get("3 unknown data set", 404, "dataset_not_found", f"/datasets/{NO_DATASET}"),
    get("3 an id of another form", 404, "not_found", "/jobs/nope"),
    get("3 a path for an id", 404, "not_found", "/datasets/..%2f..%2fetc%2fpasswd"),
    get("3 a version that is no number", 404, "not_found", f"{MODEL}/versions/latest"),
    get("3 unknown route", 404, "not_found", "/nowhere"),
    Row(
        *("3 unknown route, whatever its body", 404, "not_found", "POST", "/nowhere"),
        {"content": b"x" * 2_000_000},
    ),
    get("3 a route with a slash too many", 404, "not_found", "/jobs/"),
    get("3 unknown static file", 404, "not_found", "/static/..%2fmain.py"),
    Row("4 wrong method", 405, "method_not_allowed", "DELETE", "/generate"),
    Row(
        *("4 wrong method, whatever its body", 405, "method_not_allowed", "PUT", "/generate"),
        {"content": b"x" * 2_000_000},
    ),
    get("4 wrong method where an id might stand", 405, "method_not_allowed", "/jobs/train"),
    Row("4 wrong method of the document", 405, "method_not_allowed", "POST", "/openapi.json"),
    Row(
        *("5 form for JSON", 415, "unsupported_media_type", "POST", "/generate"),
        {"data": {"n": "1"}},
    ),
    Row(
        *("5 multipart for JSON", 415, "unsupported_media_type", "POST", "/jobs/train"),
        {"files": {"file": b"x"}},
    ),
    Row("5 JSON for a zip", 415, "unsupported_media_type", "POST", "/datasets", {"json": {}}),
    raw("5 no type", 415, "unsupported_media_type", b"{}", Content_Type=""),
    get("6 accept of a list", 406, "not_acceptable", "/models", Accept="text/html"),
    get(
        "6 accept of a picture", 406, "not_acceptable", f"{MODEL}/versions/1/samples", Accept="a/b"
    ),
    raw("7 malformed", 400, "malformed_json", b'{"n": 1'),
    raw("7 two documents", 400, "malformed_json", b"{}{}"),
    raw("7 byte order mark", 400, "malformed_json", b"\xef\xbb\xbf{}"),
    raw("8 duplicate keys", 400, "malformed_json", b'{"n": 1, "n": 1}'),
    raw("8 duplicate inner keys", 400, "malformed_json", b'{"metadata": {"a": 1, "a": 2}}'),
    raw("9 NaN", 422, "invalid_request", b'{"truncation": NaN}'),
    raw("9 Infinity", 422, "invalid_request", b'{"metadata": {"a": -Infinity}}'),
    raw("9 beyond a double", 422, "invalid_request", b'{"metadata": {"a": 1e999}}'),
    raw("9 thousands of digits", 422, "invalid_request", b'{"seed": 1' + 5000 * b"0" + b"}"),
    raw(
        "9 a double of 400 digits", 422, "invalid_request", b'{"truncation": 1' + 400 * b"0" + b"}"
    ),
    raw(
        "10 nesting", 400, "malformed_json", b'{"metadata": {"a": ' + 40 * b"[" + 40 * b"]" + b"}}"
    ),
    raw("10 nesting for ever", 400, "malformed_json", b"[" * 200_000),
    raw("10 too many values", 400, "malformed_json", b"[" + b"{}," * 300_000 + b"{}]"),
    raw("11 invalid UTF-8", 400, "malformed_json", b'{"category": "\xff\xfe"}'),
    raw("11 UTF-16", 400, "malformed_json", '{"n": 1}'.encode("utf-16")),
    raw("12 lone surrogate", 422, "invalid_request", rb'{"metadata": {"a": "\ud800"}}'),
    raw("12 NUL", 422, "invalid_request", rb'{"metadata": {"a\u0000": 1}}'),
    generate("13 unknown field", says="colour", colour="red"),
    generate("13 unknown inner field", says="enhance.gamma", enhance={"gamma": 2}),
    raw("14 body over the cap", 413, "body_too_large", b"{}".ljust(2**20 + 1)),
    raw("20 compressed", 415, "unsupported_encoding", b"x", Content_Encoding="gzip"),
    Row("a body that is missing", 422, "invalid_request", "POST", "/generate"),
    raw("a body that is no object", 422, "invalid_request", b"[]"),
]

GENERATE = [
    Row("21 model", 404, "model_not_found", "POST", "/generate", {"json": {"model": "none"}}),
    Row(
        *("21 alias", 404, "model_not_found", "POST", "/generate"),
        {"json": {"model": "fashion-mnist@none"}},
    ),
    Row(
        *("21 version", 404, "model_not_found", "POST", "/generate"),
        {"json": {"model": "fashion-mnist:9"}},
    ),
    *(
        generate(f"22 {model!r}", "invalid_model_reference", model=model)
        for model in (
            *("../../etc/passwd", "/etc/passwd", "https://example.com/m", "a\\b", "a:1@b", ""),
            *("a:0", "Fashion", "fashion-mnist:1\n", "s3://bucket"),
        )
    ),
    *(generate(f"23 n = {n}", says="n: ", n=n) for n in (0, -1, 10**9, 1.0, "1", True, None)),
    generate("23 n over the limit", says="respond-async", n=65),
    generate("24 too many pixels", says="too many", n=64, size="1024x1024"),
    generate("24 too large", size="2048x2048"),
    *(
        generate(f"24 size {size!r}", size=size)
        for size in (
            "0x0",
            "32x64",
            "-1x-1",
            "32",
            "x",
            "8x8",
            "32X32",
            "99999x99999",
            "32x32\n",
            32,
        )
    ),
    *(
        generate(f"25 seed {seed!r}", says="seed: ", seed=seed)
        for seed in (1.5, 1.0, True, "7", -1, 2**63, 2**64, [1])
    ),
    generate("25 a seed that n carries over the edge", n=2, seed=2**63 - 1, says="seed: "),
    *(
        generate(f"27 truncation {truncation!r}", says="truncation: ", truncation=truncation)
        for truncation in (0, -0.5, 1.0001, 2, "0.5", True, None)
    ),
    generate("28 category", "unknown_category", "Sneaker, T-shirt", category="Horse"),
    generate("28 category of overlong marks", "invalid_request", category="\u0301\u0323" * 9000),
    generate("28 category of another type", says="category: ", category=7),
    generate("29 colour", "unsupported_parameter", "attributes", attributes={"color": "#zzz"}),
    generate("29 background", "unsupported_parameter", "background", background="#12"),
    generate("30 format", says="output_format: ", output_format="gif"),
    generate("30 suffix", says="output_format: ", output_format="../png"),
    generate(
        "30 compression", says="output_compression", output_format="webp", output_compression=101
    ),
    generate("30 compressed PNG", "unsupported_parameter", "compression", output_compression=5),
    generate("30 response format", says="response_format", response_format="file"),
    generate("enhance below 0", says="enhance.color", enhance={"color": -1}),
    generate("enhance above 4", says="enhance.contrast", enhance={"contrast": 4.1}),
]

DATASETS = [
    upload("35 not a zip", 422, "not_a_zip", b"not a zip"),
    upload("35 nothing", 422, "not_a_zip", b""),
    upload("35 truncated", 422, "not_a_zip", SAMPLE_ARCHIVE.read_bytes()[:50_000]),
    upload("35 empty zip", 422, "empty_archive", zipped()),
    upload("36 no folder", 422, "no_categories", zipped(("a.png", PHOTO))),
    upload("36 one image", 422, "too_few_images", zipped(("hat/a.png", saved(two_tone())))),
    upload("36 no image", 422, "too_few_images", zipped(("hat/a.png", PHOTO), ("hat/b.txt", b"b"))),
    upload(
        "39 svg", 422, "too_few_images", zipped(("hat/a.svg", b"<svg/>"), ("hat/b.eps", b"%!PS"))
    ),
    upload("45 zip slip", 422, "unsafe_path", zipped(("../../srv/a.png", PHOTO))),
    upload("45 absolute", 422, "unsafe_path", zipped(("/etc/a.png", PHOTO))),
    upload("45 backslash", 422, "unsafe_path", zipped(("hat\\a.png", PHOTO))),
    upload("45 symbolic link", 422, "unsafe_path", symlink()),
    upload("46 overlapping members", 422, "suspicious_archive", overlapping()),
    upload("46 encrypted", 422, "encrypted_archive", encrypted()),
    upload(
        *("46 duplicate names", 422, "duplicate_names"),
        zipped(("hat/a.png", PHOTO), ("hat/b.png", PHOTO)).replace(b"hat/b", b"hat/a"),
    ),
    upload("46 bomb", 422, "suspicious_archive", zipped(("hat/a.png", bytes(2**22)))),
    upload("46 nested", 422, "nested_archive", zipped(("hat/a.zip", zipped(("a", b""))))),
    upload("47 over the member limit", 413, "too_many_members", many_members(200_001)),
    upload("48 NUL in a member's name", 422, "unsafe_path", named("hat/a\0.png")),
    upload("48 control characters", 422, "invalid_request", b"", name="a\r\nb\0"),
    upload("48 a name too long", 422, "invalid_request", b"", name="x" * 101),
    Row(
        *("49 no boundary", 400, "bad_request", "POST", "/datasets"),
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    ),
    Row(
        *("49 no file", 422, "invalid_request", "POST", "/datasets"),
        {"files": {"other": b"x"}},
        "file: ",
    ),
]

JOBS = [
    Row(
        *("52 unknown data set", 404, "dataset_not_found", "POST", "/jobs/train"),
        {"json": {"dataset": NO_DATASET, "model": "shoes"}},
    ),
    train("52 a path for a data set", says="dataset: ", dataset="../../etc"),
    *(train(f"53 max_images {n}", says="max_images: ", max_images=n) for n in (0, -1, 10**12, 1e3)),
    *(train(f"53 max_seconds {n}", says="max_seconds: ", max_seconds=n) for n in (0, 10**12)),
    *(train(f"53 batch_size {n}", says="batch_size: ", batch_size=n) for n in (0, 1, 513)),
    train("53 batch beyond the data set", says="batch_size: ", batch_size=512),
    train("53 fewer images than a batch", says="max_images", max_images=7),
    nas("54 empty space", says="name at least one of family", search_space={}),
    nas("54 space without values", says="search_space.family", search_space={"family": []}),
    nas("54 unknown choice", says="must be one of family", search_space={"depht": [1]}),
    nas("54 unknown value", says="search_space.depth", search_space={"depth": [1, 9]}),
    nas("54 true for one", says="search_space.depth", search_space={"depth": [True]}),
    nas("54 text for a number", says="search_space.lr", search_space={"lr": ["0.0002"]}),
    *(train(f"53 resolution {n}", says="resolution: ", resolution=n) for n in (0, 48, 4096, "64")),
    train("53 a rate that is not offered", says="lr: ", lr=0),
    train("53 preset", says="preset: ", preset="ultra"),
    train("53 loss", says="loss: ", loss="wasserstein"),
    *(
        train(f"53 augment_p {p}", says="augment_p: ", augment_p=p)
        for p in (-0.1, 0.9, "0.5", True)
    ),
    train("53 clip_norm", says="remedies.clip_norm: ", remedies={"clip_norm": -1}),
    train("53 D steps", says="remedies.discriminator_steps: ", remedies={"discriminator_steps": 6}),
    train("53 noise", says="remedies.instance_noise: ", remedies={"instance_noise": 1.1}),
    train("53 dynamic_lr", says="remedies.dynamic_lr: ", remedies={"dynamic_lr": 1}),
    train("53 remedy", says="remedies.prayer: ", remedies={"prayer": True}),
    train("53 seed", says="seed: ", seed=2**63),
    *(train(f"53 model {name!r}", says="model: ", model=name) for name in ("", "../a", "A", "a b")),
    train("53 alias", says="promote: ", promote="Prod/uction"),
    Row(
        *("52 unknown data set to search on", 404, "dataset_not_found", "POST", "/jobs/nas"),
        {"json": {"dataset": NO_DATASET, "model": "shoes"}},
    ),
    Row(
        *("52 architecture of no job", 404, "job_not_found", "POST", "/jobs/train"),
        {
            "json": {
                "dataset": SAMPLE_DATASET,
                "model": "shoes",
                "architecture": {"from_job": NO_JOB},
            }
        },
    ),  # fmt: skip
    train("53 architecture", says="architecture.", architecture={"from_job": "../../etc"}),
    nas("54 an objective that does not exist", "objectives.0.metric", objectives=[{"metric": "x"}]),
    nas("54 no objective", "objectives", objectives=[]),
    nas("54 no kid", "kid must be among them", objectives=[{"metric": "latency_ms"}]),
    nas("54 a limit of nothing", "limit", objectives=[{"metric": "kid"}, LIMIT | {"limit": 0}]),
    *(nas(f"55 max_trials {n}", "max_trials: ", max_trials=n) for n in (0, 1001, 4.0)),
    *(nas(f"55 parallel_trials {n}", "parallel_trials: ", parallel_trials=n) for n in (0, 65)),
    *(nas(f"55 max_seconds {n}", "max_seconds: ", max_seconds=n) for n in (0, 10**6)),
    *(nas(f"55 finalists {n}", "finalists: ", finalists=n) for n in (0, 9)),
    *(nas(f"55 final_seeds {n}", "final_seeds: ", final_seeds=n) for n in (0, 6)),
    nas("55 strategy", "strategy: ", strategy="luck"),
    nas("55 too many images", "generate.n: ", generate={"n": 257}),
    nas("56 a train job's field", "max_images: ", max_images=100),
    Row(
        *("28 an unknown category to generate", 422, "unknown_category", "POST", "/jobs/nas"),
        {"json": {"dataset": SAMPLE_DATASET, "model": "m", "generate": {"category": "sofa"}}},
        "dress, hat, pants, shoes",
    ),
    train("56 status", says="status: ", status="succeeded"),
    train("56 owner", says="owner: ", owner="root"),
    get("60 cursor", 422, "invalid_request", "/jobs?after=job_1;drop"),
    *(get(f"60 limit {n}", 422, "invalid_request", f"/jobs?limit={n}") for n in ("0", "101", "x")),
    get("60 status", 422, "invalid_request", "/jobs?status=done"),
    get("60 cursor of data sets", 422, "invalid_request", "/datasets?after=.."),
    get("60 limit of models", 422, "invalid_request", "/models?limit=-1"),
    get("61 a path for an artifact", 404, "not_found", f"/jobs/{NO_JOB}/artifacts/..%2fa.png"),
    Row("59 cancel of nothing", 404, "job_not_found", "POST", f"/jobs/{NO_JOB}/cancel"),
    Row(
        *("alias of a bad name", 422, "invalid_request", "PUT", f"{MODEL}/aliases/Prod"),
        {"json": {"version": 1}},
    ),
    *(
        Row(
            *(f"alias to {version!r}", 422, "invalid_request", "PUT", f"{MODEL}/aliases/staging"),
            {"json": {"version": version}},
        )
        for version in (0, "1", True, 1.0, 10**12)
    ),
]


@pytest.mark.parametrize("row", [*ANY_ROUTE, *GENERATE, *DATASETS, *JOBS], ids=lambda row: row.name)
def test_a_bad_request_is_answered_with_a_problem(
    client: TestClient, storage: Storage, row: Row
) -> None:
    if row.url in ("/jobs/train", "/jobs/nas"):
        add_sample_dataset(storage)
    response = client.request(row.method, row.url, **row.arguments)
    body = assert_problem(response, row.status, row.code)
    assert row.says in body["detail"]
    for item in body["errors"]:
        assert set(item) == {"loc", "msg", "type"}


def test_a_wrong_method_is_told_the_right_one(client: TestClient) -> None:
    assert client.delete("/generate").headers["allow"] == "POST"


def test_the_titles_are_those_of_the_standard(client: TestClient) -> None:
    assert client.post("/generate", json={"n": 0}).json()["title"] == "Unprocessable Content"
    assert client.get("/nowhere").json()["title"] == "Not Found"


def test_a_null_seed_is_a_fresh_one(client: TestClient) -> None:
    response = client.post("/generate", json={"seed": None})
    assert 0 <= response.json()["data"][0]["seed"] < 2**53


def test_the_offending_value_is_not_repeated(client: TestClient) -> None:
    response = client.post("/generate", json={"seed": "my-password"})
    assert "my-password" not in response.text


def test_weights_of_another_digest_are_not_served(serve: Serve, registry: Registry) -> None:
    card = registry.resolve("fashion-mnist")
    key = f"models/{card.name}/weights/{card.weights_sha256}.safetensors"
    good = registry.storage.read(key)
    registry.storage.put(key, good[:-1] + b"\x01")
    client = serve()
    assert_problem(client.post("/generate", json={}), 503, "model_unavailable")
    assert_problem(client.get(f"{MODEL}/versions/1/weights"), 503, "model_unavailable")


def test_an_upload_over_the_unpacked_limit_is_413(serve: Serve, storage: Storage) -> None:
    with SAMPLE_ARCHIVE.open("rb") as archive:
        response = serve(max_dataset_bytes=50_000).post("/datasets", files={"file": archive})
    assert_problem(response, 413, "too_large")
    assert DatasetStore(storage).page(10, None) == ([], False)


def test_bad_photos_among_good_ones_are_reported(client: TestClient) -> None:
    target = io.BytesIO(SAMPLE_ARCHIVE.read_bytes())
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("hat/broken.png", PHOTO)
        archive.writestr("hat/drawing.svg", b"<svg/>")
        archive.writestr("hat/\u202egnp.\U0001f452\u5e3d.png", PHOTO)
        archive.writestr("hat/39.jp2", saved(two_tone(), "jpeg2000"))
        archive.writestr("hat/40.png", png_header(65535, 65535))
        archive.writestr("hat/48\r\n.png", PHOTO)
    response = client.post("/datasets", files={"file": target.getvalue()})
    assert response.status_code == 201
    skipped = {item["name"]: item["reason"] for item in response.json()["report"]["skipped"]}
    assert skipped["hat/broken.png"] == "corrupt"
    assert skipped["hat/39.jp2"] == "unsupported"
    assert skipped["hat/40.png"] == "too_large"
    assert skipped["hat/48\ufffd\ufffd.png"] == "corrupt"
    assert any(name.endswith("hat/drawing.svg") for name in skipped)
    assert "\u202e" not in json.dumps(response.json(), ensure_ascii=False)
