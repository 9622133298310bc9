"""`python -m baco_gpu` is `baco`."""

from baco_gpu.cli.main import run

run()
