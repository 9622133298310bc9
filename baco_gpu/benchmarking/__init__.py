"""How fast the solver is on this machine, and how near to what its memory allows: what `baco bench` measures."""
