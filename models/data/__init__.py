"""Data sets: archives, photos, the canonical form that is kept, and the held-out split."""
