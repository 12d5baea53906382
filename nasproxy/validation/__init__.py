"""Can a score be believed? Full training of a uniform sample, and every score compared with it."""
