"""The bipartite graph of users and items."""
