"""Sliding windows: how many fit, and their members, one array for each place in the window."""

from array_api_compat import array_namespace

from golden.network import Array


def extent(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return how many windows fit along one side of a map; below 1 when none does."""
    return (size + 2 * padding - kernel) // stride + 1


def windows(x: Array, kernel: tuple[int, int], *, stride: int, padding: int, fill: int = 0) -> list[Array]:
    """Return, for (j, k) in row-major order, ``out[..., y, x] = x[..., y*stride - padding + j, x*stride - padding + k]``.

    x : [..., H, W]; outside of the map lies ``fill``
    returns height x width of ``kernel`` arrays [..., `extent` of H, `extent` of W]; windows that do not
    fit are dropped
    """
    height, width = x.shape[-2:]
    if padding:
        xp = array_namespace(x)
        framed = xp.full((*x.shape[:-2], height + 2 * padding, width + 2 * padding), fill, dtype=x.dtype)
        framed[..., padding : padding + height, padding : padding + width] = x
        x, height, width = framed, height + 2 * padding, width + 2 * padding
    rows, columns = height - kernel[0] + 1, width - kernel[1] + 1
    return [x[..., j : j + rows : stride, k : k + columns : stride] for j in range(kernel[0]) for k in range(kernel[1])]
