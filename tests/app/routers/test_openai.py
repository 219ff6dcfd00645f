"""The official OpenAI client against our endpoint, over real HTTP."""

import base64
from collections.abc import Iterator
from io import BytesIO

import httpx
import openai
import pytest
from PIL import Image

from tests.service import Service

PROMPT = "two sneakers on a white background"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Embedded mode, as `make run` starts it."""
    service = Service({"VITRINE_DATA_DIR": str(tmp_path_factory.mktemp("data"))})
    service.wait_until_ready()
    yield service
    service.interrupt()
    service.close()


@pytest.fixture
def client(service: Service) -> Iterator[openai.OpenAI]:
    """The official client, configured with our address alone."""
    address = f"{service.url}/v1"
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        yield client


def test_the_official_client_generates_images(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt=PROMPT, n=2, size="256x256", extra_body={"seed": 4})
    assert answer.data is not None
    assert [item.revised_prompt for item in answer.data] == ["Sneaker", "Sneaker"]
    contents = [base64.b64decode(str(item.b64_json)) for item in answer.data]
    assert contents[0] != contents[1]
    for content in contents:
        image = Image.open(BytesIO(content))
        image.load()
        assert (image.format, image.size) == ("PNG", (256, 256))
    again = client.images.generate(prompt=PROMPT, size="256x256", extra_body={"seed": 5})
    assert again.data is not None
    assert base64.b64decode(str(again.data[0].b64_json)) == contents[1]


def test_the_official_client_gets_links(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        prompt="a bag", model="fashion-mnist", response_format="url", output_format="webp"
    )
    assert answer.data is not None
    assert answer.data[0].url is not None
    image = Image.open(BytesIO(httpx.get(answer.data[0].url).content))
    assert image.format == "WEBP"


def test_errors_are_what_the_client_raises(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="name one of") as unknown:
        client.images.generate(prompt="a car")
    assert (unknown.value.code, unknown.value.param) == ("unknown_category", "prompt")
    with pytest.raises(openai.BadRequestError, match="no colours to choose") as color:
        client.images.generate(prompt="a red bag")
    assert color.value.code == "unsupported_parameter"
    with pytest.raises(openai.NotFoundError) as model:
        client.images.generate(prompt="a bag", model="dall-e-3")
    assert model.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as size:
        client.images.generate(prompt="a bag", size="1024x1536")
    assert size.value.param == "size"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("dall-e-3")


def test_the_official_client_lists_models(client: openai.OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert set(models) == {"clothing", "fashion-mnist"}
    assert client.models.retrieve("clothing") == models["clothing"]
    pinned = client.models.retrieve("clothing:1")
    assert (pinned.id, pinned.created) == ("clothing:1", models["clothing"].created)
    assert pinned.object == "model"
