"""Methods: one object a file, each of which says who shares rows, and makes the tables of a budget."""
