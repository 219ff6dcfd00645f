"""Evaluation of generated images: metrics, feature extractors, memorisation."""
