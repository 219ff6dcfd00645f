"""The nas job: architecture search shared by several workers."""
