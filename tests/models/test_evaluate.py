"""The command that evaluates a model: the model beside the floor, as JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.checkpoint import save_model
from models.evaluate import main
from models.networks.gan import GanConfig, Generator
from tests.models.pictures import saved, zipped


def test_the_command_prints_the_model_beside_the_floor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("train", 0), ("test", 1000)):
        (tmp_path / f"{name}.zip").write_bytes(zipped(left_and_right(seed)).getvalue())
    config = GanConfig(resolution=28, categories=2, z_dim=8, generator_width=4)
    (tmp_path / "model").write_bytes(save_model(Generator(config).eval(), ("left", "right")))
    paths = {name: str(tmp_path / name) for name in ("model", "train.zip", "test.zip", "card")}
    card = {"metrics": {"images_per_second": 5, "evaluation": {"protocol": {"extractor": "cnn"}}}}
    (tmp_path / "card").write_text(json.dumps(card))
    main(
        [
            *("--model", paths["model"], "--train", paths["train.zip"]),
            *("--test", paths["test.zip"], "--neighbours", str(tmp_path / "sheet.png")),
            *("--card", paths["card"]),
        ]
    )

    said = json.loads(capsys.readouterr().out)
    assert set(said["protocol"]["judges"]) == {"cnn"}
    assert said["protocol"]["held_out_images"] == 300
    assert said["floor"]["category_accuracy"] > 0.95
    assert said["floor"]["kid_cnn"] < said["intervals"]["kid_cnn"][0]
    assert said["verdict"].startswith("not good enough")
    assert 0.3 < said["memorisation"]["cnn"]["authenticity_held_out"] < 0.7
    rewritten = json.loads((tmp_path / "card").read_text())
    assert rewritten == {"metrics": {"images_per_second": 5, "evaluation": said}}
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 1000


def left_and_right(seed: int) -> dict[str, bytes]:
    """Files of an upload: 150 dark noisy pictures of each category, one half of them bright."""
    files = {}
    random = np.random.default_rng(seed)
    for index in range(300):
        pixels = random.integers(0, 60, (28, 28), dtype=np.uint8)
        half = pixels[:, :14] if index % 2 == 0 else pixels[:, 14:]
        half += np.uint8(random.integers(60, 190))
        name = ("left", "right")[index % 2]
        files[f"{name}/{index}.png"] = saved(Image.fromarray(pixels))
    return files
