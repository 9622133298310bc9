"""Clusters of alike users and of alike items: rows of a spectral embedding, divided where they differ most.

`spectral_rows` embeds both sides, `RowTree` divides them into as many clusters as there are rows to give away, and
`paired_rows` gives nodes the two rows whose mean is nearest to their own.
"""
