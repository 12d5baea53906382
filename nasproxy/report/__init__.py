"""The report: its data, its verdict in words, its figures and its HTML page."""
