"""Several processes at one task, over the process groups of torch.distributed."""
