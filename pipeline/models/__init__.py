"""Model weights: fetched, converted, checked, and named by an exact revision."""
