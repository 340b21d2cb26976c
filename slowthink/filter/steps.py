"""The steps of the filter, cheap ones first; each keeps rows and says why the others go."""

from __future__ import annotations

from slowthink.filter.contamination import contamination
from slowthink.filter.difficulty import difficulty
from slowthink.filter.domains import domains
from slowthink.filter.duplicates import duplicates
from slowthink.filter.quality import quality
from slowthink.filter.state import FilterStep

STEPS: tuple[FilterStep, ...] = (quality, duplicates, contamination, domains, difficulty)
