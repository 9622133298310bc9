"""What several methods share: hashing, searches, sparse matrices of labels, how rows are dealt to both sides."""
