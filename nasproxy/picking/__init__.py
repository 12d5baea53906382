"""Which candidate to train next, and which to pick, for a stated compute: mathematics on columns."""
