"""Slow float64 loops, written from the formulas of the papers, that the fast code is compared with."""
