"""What rows of interactions come from: one file for every kind of source."""
