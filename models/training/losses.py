"""Adversarial losses, computed from logits so that no sigmoid can saturate to zero or one.

`classic`: "Generative Adversarial Networks" - Goodfellow et al., 2014
(https://arxiv.org/abs/1406.2661), with the non-saturating generator loss of its section 3.
`hinge`: "Geometric GAN" - Lim and Ye, 2017 (https://arxiv.org/abs/1705.02894).
`relativistic`: "The relativistic discriminator" - Jolicoeur-Martineau, 2018
(https://arxiv.org/abs/1807.00734), in the pairing form that R3GAN (Huang et al., 2024,
https://arxiv.org/abs/2501.05441) proves to converge with gradient penalties on both sides.

Shapes: N batch, C image channels, R resolution in pixels. Logits are float32 (N,), positive where
the discriminator takes the image for real; every loss is the mean over the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Literal["classic", "hinge", "relativistic"]
FromLogits = Callable[[Tensor, Tensor], Tensor]  # of real, then fake logits


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses of both networks, as functions of real and fake logits."""

    generator: FromLogits
    discriminator: FromLogits
    relative: bool = False  # only the difference of a pair's logits has a meaning

    def accuracy(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The discriminator's accuracy in [0, 1], over images, or over pairs if `relative`."""
        if self.relative:
            return (real_logits > fake_logits).float().mean()
        return torch.cat([real_logits > 0, fake_logits <= 0]).float().mean()


def classic_generator_loss(_real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """L_G = -log D(G(z))."""
    return F.softplus(-fake_logits).mean()


def classic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """L_D = -[log D(x) + log(1 - D(G(z)))]."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def hinge_generator_loss(_real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """L_G = -D(G(z))."""
    return -fake_logits.mean()


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """L_D = max(0, 1 - D(x)) + max(0, 1 + D(G(z)))."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def relativistic_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """L_G = softplus(-(D(G(z)) - D(x))), each fake paired with a real of its category."""
    return F.softplus(real_logits - fake_logits).mean()


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """L_D = softplus(-(D(x) - D(G(z)))), without its gradient penalties."""
    return F.softplus(fake_logits - real_logits).mean()


LOSSES: dict[Loss, AdversarialLoss] = {
    "classic": AdversarialLoss(classic_generator_loss, classic_discriminator_loss),
    "hinge": AdversarialLoss(hinge_generator_loss, hinge_discriminator_loss),
    "relativistic": AdversarialLoss(
        relativistic_generator_loss, relativistic_discriminator_loss, relative=True
    ),
}


def gradient_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """Squared norm (N,) of each logit's gradient by its own image (N, C, R, R), to be minimised.

    R1 of real images, R2 of fake ones: "Which Training Methods for GANs do actually Converge?" -
    Mescheder et al., 2018 (https://arxiv.org/abs/1801.04406). A logit must not depend on other
    images, which excludes batch norm.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().sum((1, 2, 3))


def learning_rates(lr: float, alpha: float) -> tuple[float, float]:
    """Generator and discriminator rates that realise the total alpha L_G + (1 - alpha) L_D.

    Two Adam optimisers divide any constant factor out of their gradients again, so weighting the
    losses would change almost nothing; the weights act on the learning rates instead. `alpha` 0.5
    gives both `lr`; less favours the discriminator.
    """
    return 2 * alpha * lr, 2 * (1 - alpha) * lr
