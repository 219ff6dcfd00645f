"""Neural architecture search: search space, proposals, successive halving, final training."""
