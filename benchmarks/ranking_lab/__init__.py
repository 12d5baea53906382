"""The laboratory of rankings: cheap signals against truths of several lengths, one recorded row a measurement."""
