"""Adversarial losses, computed from logits so that no sigmoid can saturate to zero or one.

Paper: "Generative Adversarial Networks" - Goodfellow et al., 2014
(https://arxiv.org/abs/1406.2661), with the non-saturating generator loss of its section 3.

Shapes: N batch. Logits are float32 (N,), positive where the discriminator believes in the image.
"""

import torch.nn.functional as F
from torch import Tensor


def classic_generator_loss(fake_logits: Tensor) -> Tensor:
    """L_G = -log D(G(z)), the mean over the batch."""
    return F.softplus(-fake_logits).mean()


def classic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """L_D = -[log D(x) + log(1 - D(G(z)))], the mean over the batch."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def learning_rates(lr: float, alpha: float) -> tuple[float, float]:
    """Generator and discriminator rates that realise the total alpha L_G + (1 - alpha) L_D.

    Two Adam optimisers divide any constant factor out of their gradients again, so weighting the
    losses would change almost nothing; the weights act on the learning rates instead. `alpha` 0.5
    gives both `lr`; less favours the discriminator.
    """
    return 2 * alpha * lr, 2 * (1 - alpha) * lr
