"""On the CPU, products of matrices have the same bits wherever these lie: in memory of their own, or in the middle of a file."""

import pytest
import torch

OFFSETS = range(1, 16)
"""In floats; what torch allocates begins at 0 of 16."""


def elsewhere(tensor: torch.Tensor, offset: int) -> torch.Tensor:
    """A copy that begins so many floats behind what torch allocates."""
    place = torch.empty(tensor.numel() + offset)[offset:].view(tensor.shape)
    return place.copy_(tensor)


@pytest.mark.parametrize(("rows", "inner", "columns"), [(1, 32, 16), (2, 16, 32), (77, 64, 96), (333, 8, 8)])
def test_a_product_has_the_same_bits_wherever_its_factors_lie(rows: int, inner: int, columns: int) -> None:
    """MKL by itself takes another kernel for memory that is not aligned, on some processors."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=generator) for shape in ((rows, inner), (columns, inner), (columns,))
    )
    expected = torch.nn.functional.linear(x, weight, bias)
    for offset in OFFSETS:
        for moved in ((elsewhere(x, offset), weight, bias), (x, elsewhere(weight, offset), bias),
                      (x, weight, elsewhere(bias, offset))):  # fmt: skip
            assert torch.equal(torch.nn.functional.linear(*moved), expected), offset
