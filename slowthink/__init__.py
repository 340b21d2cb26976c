"""slowthink: from a pool of problems to a slow-thinking model, and how it thinks, measured."""

__version__ = "0.1.0"
