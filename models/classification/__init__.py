"""Photo classification: which category a product photo or a generated image shows, and why."""
