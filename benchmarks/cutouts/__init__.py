"""Cut-outs against known masks, and against what a person sees."""
