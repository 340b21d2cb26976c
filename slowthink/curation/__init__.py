"""Curation shared by the stages filter, trace and select: overlap of texts, domains, language."""
