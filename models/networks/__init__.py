"""Network architectures: the GAN, the CNN, and their shared layers."""
