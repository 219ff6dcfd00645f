"""The model registry: versions, aliases, and links to generated images."""
