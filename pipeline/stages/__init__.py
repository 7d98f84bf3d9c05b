"""The stages: what each one does, what it depends on, and the walk through them."""
