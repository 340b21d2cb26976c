"""The steps of the filter, cheap ones first; each keeps rows and says why the others go."""

from __future__ import annotations

import functools

from slowthink.filter.contamination import contamination
from slowthink.filter.difficulty import difficulty
from slowthink.filter.quality import QUALITY_RULES, first_objections
from slowthink.filter.state import FilterStep, Funnel
from slowthink.recipe import FilterConfig
from slowthink.records import Dropped, Problem
from slowthink.rows import cut
from slowthink.runner import map_rows
from slowthink.runs import StageContext


STEPS: tuple[FilterStep, ...] = (quality, duplicates, contamination, difficulty)
