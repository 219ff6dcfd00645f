"""Cut-outs: masks of products, how far to trust them, studio photos, products' colours."""
