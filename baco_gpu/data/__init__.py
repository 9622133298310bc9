"""Interactions: reading, splitting, making up, and the raw ids behind them."""
