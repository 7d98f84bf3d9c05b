"""What can be asked of a selected data set, and what it becomes outside."""
