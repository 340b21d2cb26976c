"""Duplicates of texts, and leaks of test problems into them."""
