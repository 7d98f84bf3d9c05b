"""Plans: what a recipe takes in time, memory and disk, before it runs."""
