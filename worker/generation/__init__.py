"""The generate job: bulk image generation."""
