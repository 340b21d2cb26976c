"""Grading: extract the answer from a text and compare it with the reference answer."""

from slowthink.grading.grader import MODES, GradeItem, Grader, check_dependencies

__all__ = ["MODES", "GradeItem", "Grader", "check_dependencies"]
