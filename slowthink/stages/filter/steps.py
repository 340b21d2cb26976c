"""The steps of the filter, cheap ones first; each keeps rows and says why the others go."""

from __future__ import annotations

from slowthink.stages.filter.contamination import contamination
from slowthink.stages.filter.difficulty import difficulty
from slowthink.stages.filter.domains import domains
from slowthink.stages.filter.duplicates import duplicates
from slowthink.stages.filter.quality import quality
from slowthink.stages.filter.state import FilterStep

STEPS: tuple[FilterStep, ...] = (quality, duplicates, contamination, domains, difficulty)
