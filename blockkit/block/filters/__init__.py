"""Filters: nodes that stand in the way of requests."""
