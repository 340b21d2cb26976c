"""People examine the chains of a run together, on a local page: `slowthink review RUN`.

    run/trace ─► chains ─► app (pages, forms) ─► store (review.sqlite) ─► summary, select.review

Reviewers are blind to scores, teacher, verdict and each other until enough of them have judged a
chain. The records, and their form as JSONL, are in `data.reviews`.
"""
