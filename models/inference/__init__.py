"""Sampling from a trained generator, and the engines that compute it."""
