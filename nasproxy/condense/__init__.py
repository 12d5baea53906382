"""Building a proxy set: matching, the methods, the plan of a build."""
