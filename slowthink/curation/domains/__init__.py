"""Which field of a taxonomy a problem belongs to, asked of a model or told offline."""
