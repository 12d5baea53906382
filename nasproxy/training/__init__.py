"""Training candidates: one net, tasks, worker processes, and the table of everything that was ever trained."""
