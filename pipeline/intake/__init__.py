"""What the prompt intake is made of: readers, the form of a row, normalisation and tags, duplicates, contamination."""
