"""Images of a registered model as files of a job."""

from models.checkpoint import load_model
from models.images import Provenance, contact_sheet, encode
from models.sample import even_label, sample
from worker.claims import Claim
from worker.model_versions import ModelCard
from worker.registry import Registry
from worker.requests import GenerateAfterwards
from worker.watch import Watch

COLUMNS = 8  # of the contact sheet
SMALLEST_TILE = 64  # px


def generate_files(claim: Claim, watch: Watch, card: ModelCard, wanted: GenerateAfterwards) -> int:
    """Make the images, a file each and a contact sheet; how many.

    Raises:
        ValueError: the model has no such category.
    """
    model = load_model(Registry(claim.ledger.storage).weights(card))
    if wanted.category is not None and wanted.category not in model.categories:
        raise ValueError(f"generate.category: must be one of {', '.join(model.categories)}")
    images = []
    for seed in watch.during("generating", range(wanted.seed, wanted.seed + wanted.n), wanted.n):
        label = (
            even_label(seed, len(model.categories))
            if wanted.category is None
            else model.categories.index(wanted.category)
        )
        (pixels,) = sample(model.generator, [seed], [label], wanted.truncation)
        images.append(pixels)
        origin = Provenance(model=card.name, version=card.version, seed=seed)
        name = f"generated-{len(images) - 1:04d}.{wanted.output_format}"
        data = encode(pixels, wanted.output_format, provenance=origin)
        claim.store(name, data)
    rows = [images[start : start + COLUMNS] for start in range(0, len(images), COLUMNS)]
    sheet = contact_sheet(rows, None, tile=max(SMALLEST_TILE, model.generator.config.resolution))
    claim.store("generated.png", encode(sheet, "png"))
    return len(images)
