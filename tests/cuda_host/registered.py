"""The operators as a GPU has them, on kernels built for the CPU; in a process of its own, since it changes them."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch

from baco_gpu.ops import dispatch, kernels, lookup, reference, segments, sparse_product
from cuda_host.host import SMALL, HostLauncher


def register(launch: HostLauncher) -> None:
    """Make the CPU's implementations what those of a GPU are."""
    dispatch.launcher_of = lambda where: launch
    torch.cuda.device = lambda where: contextlib.nullcontext()
    for operator, check, checked, launched, otherwise in (
        (lookup.codebook_lookup, lookup._check_lookup, 4, kernels.lookup, reference.lookup),
        (
            *(lookup.codebook_lookup_gradient, lookup._check_gradient, 4),
            *(kernels.lookup_gradient, reference.lookup_gradient),
        ),
        (
            *(lookup.codebook_lookup_row_gradients, lookup._check_gradient, 4),
            *(kernels.lookup_row_gradients, reference.lookup_row_gradients),
        ),
        (lookup.codebook_expand, lookup._check_expansion, 6, kernels.expand, reference.expand),
        (lookup.codebook_collapse, lookup._check_expansion, 6, kernels.collapse, reference.collapse),
        (sparse_product.gathered_sums, sparse_product._check, 4, kernels.gathered_sums, segments.gathered_sums),
        (
            *(sparse_product.gathered_sums_at, sparse_product._check, 4),
            *(kernels.gathered_sums_at, segments.gathered_sums_at),
        ),
    ):
        operator.register_kernel("cpu")(dispatch.on_cuda(check, checked, launched, otherwise))


def check(secondary: torch.Tensor | None, padding: int) -> None:
    """What `torch.library` asks of operators, gradients of both orders, one graph under `torch.compile`, autocast."""
    codes = torch.tensor([0, 1, 2, 3, 0, 1, 2], dtype=torch.int32)
    codebook = torch.randn((5, 3), dtype=torch.float64, requires_grad=True)
    indices = torch.tensor([[0, 3, 6], [3, 3, 5]])
    grad = torch.randn((2, 3, 3), dtype=torch.float64, requires_grad=True)
    table_grad = torch.randn((7, 3), dtype=torch.float64, requires_grad=True)
    members = lookup.list_members(codes, secondary, padding, 5)
    given = (codes, secondary, indices, padding)
    torch.library.opcheck(lookup.codebook_lookup, (codebook, *given))
    torch.library.opcheck(lookup.codebook_lookup_gradient, (grad, *given, 5))
    torch.library.opcheck(lookup.codebook_lookup_row_gradients, (grad.detach(), *given, 5))
    torch.library.opcheck(lookup.codebook_expand, (codebook, codes, secondary, padding, *members))
    torch.library.opcheck(lookup.codebook_collapse, (table_grad, codes, secondary, padding, *members))
    product = (codebook.detach(), *members, torch.randn(len(members.ids)).double())
    torch.library.opcheck(sparse_product.gathered_sums, product)
    torch.library.opcheck(sparse_product.gathered_sums_at, (*product, indices.reshape(-1) % 5))
    for function in (
        lambda table: lookup.codebook_lookup(table, *given),
        lambda table: lookup.codebook_expand(table, codes, secondary, padding, *members),
    ):
        assert torch.autograd.gradcheck(function, codebook)
        assert torch.autograd.gradgradcheck(function, codebook)
        compiled = torch.compile(lambda table, own=function: own(table) * 2, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(codebook), function(codebook) * 2)
    with torch.autocast("cpu", torch.bfloat16):
        rows = lookup.codebook_lookup(codebook.float(), *given)
        assert (rows.dtype, (rows @ torch.ones((3, 2))).dtype) == (torch.float32, torch.bfloat16)


if __name__ == "__main__":
    launcher = HostLauncher(sorted(Path(sys.argv[1]).glob("*.so")), SMALL)
    register(launcher)
    for second in (None, torch.tensor([1, 4, 2, 0, 4, 4, 3], dtype=torch.int32)):
        for index in (lookup.NO_PADDING, 3):
            check(second, index)
    print(*sorted({name.partition("<")[0] for name in launcher.launched}))
