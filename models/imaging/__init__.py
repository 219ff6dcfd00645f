"""Images without torch: pixels, codecs, rendering, contact sheets."""
