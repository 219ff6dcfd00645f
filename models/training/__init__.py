"""GAN training: the loop, one step, losses, augmentation, presets."""
