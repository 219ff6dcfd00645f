"""The GAN / CNN / NAS core: tensors and bytes in, tensors and bytes out."""
