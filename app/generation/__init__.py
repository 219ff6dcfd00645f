"""Image generation in the API process: model resolution, batching, sampling, response formats."""
