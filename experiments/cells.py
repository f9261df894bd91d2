"""What stands in a cell of a table."""

from experiments.significance import Compared, Scored


def figure_cell(row: Scored, key: str) -> str:
    """The mean over seeds, and the standard deviation of one."""
    deviation = row.deviation(key)
    return f"{row.mean(key):.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")


def compared_cells(found: Compared | None) -> list[str]:
    """The difference with its interval, and p; nothing where nothing is compared."""
    if found is None:
        return ["", ""]
    low, high = found.interval
    p = f"{found.p:.4f}" if found.p >= 0.0001 else "< 0.0001"
    return [f"{found.difference:+.1f} ({low:+.1f} to {high:+.1f})", p if found.resolved else f"{p}, not resolved"]
