"""What every other package may use: errors, files, devices, random streams, progress, words for numbers."""
