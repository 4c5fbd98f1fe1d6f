"""Live taps as kernels take them: runs of consecutive taps, and the centre by colour group after them."""

from collections.abc import Sequence

import triton
import triton.language as tl


def runs(taps: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(how many taps lie in earlier runs, first tap) of each run of consecutive taps; one run for types A and B."""
    return tuple((i, tap) for i, tap in enumerate(taps) if i == 0 or taps[i - 1] != tap - 1)


@triton.jit
def tap_of(position, RUNS: tl.constexpr):
    """The tap at `position` in the list of live ones."""
    tap = position
    for r in tl.static_range(len(RUNS)):
        tap = tl.where(position >= RUNS[r][0], position - RUNS[r][0] + RUNS[r][1], tap)
    return tap


@triton.jit
def position_of(tap, taps, RUNS: tl.constexpr):
    """Where `tap` stands in the list of `taps` live ones; -1 where it is dead."""
    position = tap * 0 - 1
    for r in tl.static_range(len(RUNS)):
        position = tl.where(tap >= RUNS[r][1], tap - RUNS[r][1] + RUNS[r][0], position)
        if r + 1 < len(RUNS):
            position = tl.where((tap >= RUNS[r][1]) & (position >= RUNS[r + 1][0]), -1, position)
    return tl.where(position < taps, position, -1)


@triton.jit
def offset_of(tap, dilation, KH: tl.constexpr, KW: tl.constexpr):
    """Rows and columns from an output pixel to the input pixel that `tap` reads."""
    row = tap // KW
    return (row - KH // 2) * dilation, (tap - row * KW - KW // 2) * dilation
