"""The condensation methods, one file for each; selections.py has those that choose real images."""
