"""Grading: find the answer in a text, compare it with the key, say which rule decided."""

from slowthink.grading.grader import MODES, GradeItem, Grader, check_dependencies

__all__ = ["MODES", "GradeItem", "Grader", "check_dependencies"]
