"""The search: an Optuna study over a space, its proposals, its rungs, its run folder."""
