"""Operators on PyTorch's tensors, and no modules: what tables, models and samplers are made of, on any device."""
