"""Texts that are the same, nearly the same, or contained in each other: duplicates and leaks."""
