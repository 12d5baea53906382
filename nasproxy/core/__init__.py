"""Ground of everything: errors, files, devices, random streams, progress, words for numbers."""
