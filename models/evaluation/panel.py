"""The panel of judges: independent ways to compare images with held-out photos.

Every single judge can be fooled by a kind of fault that it does not see. Features of ImageNet, for
example, overlook discoloured and collapsed images ("The Role of ImageNet Classes in Frechet
Inception Distance" - Kynkaanniemi et al., 2022, https://arxiv.org/abs/2203.06026). So the panel
measures in the features of networks that were trained on different tasks, by textures and colours
without any network, and by category. `models.evaluation.scores` joins the measures.

Shapes: N images, C channels, R resolution in pixels, D features, K categories.
"""

from dataclasses import asdict, dataclass
from statistics import mean

import torch
from torch import Tensor

from models.evaluation.color_distance import color_distance
from models.evaluation.extractors import Extractor, See, see_all
from models.evaluation.linear_probe import LinearProbe, fit_probe
from models.evaluation.memorisation import Memorisation, memorisation
from models.evaluation.metrics import diversity, frechet_distance, kernel_distance, overlap
from models.evaluation.scores import Measures, Scores, score
from models.evaluation.sliced_wasserstein import sliced_wasserstein
from models.progress import Steps, scaled

# Measures whose worst value is 0, though noise may score better.
SHARES = ("precision", "recall", "density", "coverage", "diversity", "authenticity")
NOISE_IMAGES = 40  # all alike to every judge, so that more would change nothing


@dataclass(frozen=True, kw_only=True)
class View:
    """N images as the panel sees them."""

    images: Tensor  # uint8 (N, C, R, R)
    labels: Tensor  # int64 (N,)
    features: dict[str, Tensor]  # by extractor, float32 (N, D)
    masks: Tensor | None  # of the products, bool (N, R, R); None for grey images

    def select(self, chosen: Tensor) -> "View":
        """The view of some of the images, by index."""
        return View(
            images=self.images[chosen],
            labels=self.labels[chosen],
            features={name: rows[chosen] for name, rows in self.features.items()},
            masks=None if self.masks is None else self.masks[chosen],
        )


@dataclass(frozen=True)
class Panel:
    """The networks that judge one kind of images."""

    extractors: tuple[Extractor, ...]  # in the first one's features, categories are told apart

    @property
    def identity(self) -> dict[str, str]:
        """The networks' identities, by name."""
        return {extractor.name: extractor.identity for extractor in self.extractors}

    def look(self, images: Tensor, labels: Tensor, see: See = see_all) -> Steps[View]:
        """Compute what the networks see: nearly all of an evaluation's time.

        `see` may remember what they have seen before.
        """
        features, masks, count = {}, None, len(self.extractors)
        for index, extractor in enumerate(self.extractors):
            steps = see(extractor, images)
            seen = yield from scaled(steps, index / count, (index + 1) / count)
            features[extractor.name] = seen.features
            masks = masks if seen.masks is None else seen.masks
        return View(images=images, labels=labels, features=features, masks=masks)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Measures of N images, and what says more than one number."""

    images: int
    measures: Measures
    intervals: dict[str, tuple[float, float]]  # 95 %, of the measures that have one
    memorisation: dict[str, Memorisation]  # by extractor


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The photos that images are compared with."""

    panel: Panel
    training: View
    held_out: View
    probe: LinearProbe  # fitted on the training photos

    def training_sample(self) -> View:
        """Training photos, as many as are held out, or all if fewer."""
        random = torch.Generator().manual_seed(0)
        order = torch.randperm(len(self.training.labels), generator=random)
        return self.training.select(order[: len(self.held_out.labels)])

    def judge(self, view: View) -> Judgement:
        """Measure images against the held-out photos; compare results of equal N only."""
        measures: Measures = {}
        intervals, repeats = {}, {}
        for extractor in self.panel.extractors:
            name = extractor.name
            real, fake = self.held_out.features[name], view.features[name]
            kid = kernel_distance(real, fake)
            intervals[f"kid_{name}"] = (kid.low, kid.high)
            shared = overlap(real, fake)
            repeats[name] = memorisation(self.training.features[name], real, fake)
            measures |= {
                f"fd_{name}": frechet_distance(real, fake),
                f"kid_{name}": kid.value,
                **{f"{kind}_{name}": value for kind, value in asdict(shared).items()},
                f"diversity_{name}": diversity(real, fake, self.held_out.labels, view.labels),
                f"authenticity_{name}": repeats[name].authenticity,
            }
        return Judgement(
            images=len(view.labels),
            measures=measures | self._without_features(view) | self._by_category(view),
            intervals=intervals,
            memorisation=repeats,
        )

    def _without_features(self, view: View) -> Measures:
        """Textures, and the colours of products and backgrounds."""
        distances = sliced_wasserstein(self.held_out.images, view.images)
        measures = {"swd": mean(distances.values())}
        if self.held_out.masks is not None and view.masks is not None:
            colors = color_distance(
                self.held_out.images, view.images, self.held_out.masks, view.masks
            )
            found = {"color_product": colors.product, "color_background": colors.background}
            measures |= {name: value for name, value in found.items() if value is not None}
        return measures

    def _by_category(self, view: View) -> Measures:
        """How well categories are told apart in the images, and by what the images teach.

        CAS: accuracy on the held-out photos of a probe fitted on the images; "Classification
        Accuracy Score for Conditional Generative Models" - Ravuri and Vinyals, 2019
        (https://arxiv.org/abs/1905.10887).
        """
        name = self.panel.extractors[0].name
        features = view.features[name]
        categories, penalty = self.probe.weight.shape[1], self.probe.penalty
        taught = fit_probe(features, view.labels, categories, penalty=penalty)
        return {
            "category_accuracy": self.probe.accuracy(features, view.labels),
            "cas": taught.accuracy(self.held_out.features[name], self.held_out.labels),
        }


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The two ends of every measure's scale."""

    floor: Measures  # of photos in place of images
    noise: Measures

    def score(self, measures: Measures) -> Scores:
        """Where measures lie between noise and photos."""
        return score(measures, self.floor, self.noise)


def build_reference(panel: Panel, training: View, held_out: View, categories: int) -> Reference:
    """Fit the probe on the training photos."""
    features = training.features[panel.extractors[0].name]
    probe = fit_probe(features, training.labels, categories)
    return Reference(panel=panel, training=training, held_out=held_out, probe=probe)


def build_scale(reference: Reference) -> Steps[Scale]:
    """Measure photos in place of images, and noise of the photos' colours."""
    held_out = reference.held_out
    judgement = reference.judge(reference.training_sample())
    # Training photos are copies of themselves, and the probe knows them: held-out photos are not.
    unseen = {
        f"authenticity_{name}": found.authenticity_held_out
        for name, found in judgement.memorisation.items()
    }
    name = reference.panel.extractors[0].name
    unseen["category_accuracy"] = reference.probe.accuracy(held_out.features[name], held_out.labels)
    random = torch.Generator().manual_seed(0)
    labels = held_out.labels[torch.randperm(len(held_out.labels), generator=random)[:NOISE_IMAGES]]
    noise = yield from reference.panel.look(noise_like(held_out.images, len(labels)), labels)
    return Scale(floor=judgement.measures | unseen, noise=_noise_measures(reference, noise))


def noise_like(photos: Tensor, count: int) -> Tensor:
    """Images (count, C, R, R) of independent pixels with the photos' mean and deviation."""
    values = photos.float()
    mean_, deviation = (f((0, 2, 3), keepdim=True) for f in (values.mean, values.std))
    random = torch.Generator().manual_seed(0)
    pixels = torch.randn(count, *photos.shape[1:], generator=random) * deviation + mean_
    return pixels.round().clamp(0, 255).to(torch.uint8)


def _noise_measures(reference: Reference, noise: View) -> Measures:
    """The measures of noise; the worst that there is where noise does not bring it about."""
    worst = reference.judge(noise).measures
    categories = reference.probe.weight.shape[1]
    for name in worst:
        if name.startswith(SHARES):
            worst[name] = 0.0
        elif name in ("category_accuracy", "cas"):
            worst[name] = 1 / categories
    return worst
