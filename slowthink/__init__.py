"""slowthink: curate reasoning data, train a slow-thinking model, and evaluate it under budgets."""

__version__ = "0.1.0"
