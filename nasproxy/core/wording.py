"""Numbers as people read them."""

from __future__ import annotations


def rough_duration(seconds: float) -> str:
    """Seconds for an estimate, with as many digits as one has: ``45 s``, ``12 min``, ``3.5 h``, ``2.1 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def precise_duration(seconds: float | None) -> str:
    """Seconds that were measured: ``0``, ``0.42 s``, ``12 s``, ``3.5 min``, ``2.1 h``; a dash for None."""
    if seconds is None:
        return "–"
    if seconds == 0:
        return "0"
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, and a true minus: ``+0.42``, ``−0.10``; ``0.00`` has no sign."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def percent(fraction: float | None, std: float | None = None) -> str:
    """``54.3 %``, with ``± 0.4`` when ``std`` is known; a dash for None."""
    if fraction is None:
        return "–"
    return f"{100 * fraction:.1f}{f' ± {100 * std:.1f}' if std is not None else ''} %"


def compact(value: float | None) -> str:
    """A number of any size, for a table: ``20,874``, ``0.00034``, ``1.2e+30``; a dash for None."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"))


def amount(value: float | None, unit: str = "") -> str:
    """A number with an SI prefix: ``1.2 T``, ``340 MFLOP``, ``5 mWh``; a dash for None."""
    if value is None:
        return "–"
    least, prefix = next(((least, prefix) for least, prefix in PREFIXES if abs(value) >= least), (1.0, ""))
    number = value / least
    return f"{number:.3g}" + (f" {prefix}{unit}" if prefix or unit else "")


def energy_text(joules: float | None) -> str:
    """Energy in watt-hours with an SI prefix; a dash for None."""
    return "–" if joules is None else amount(joules / 3600, "Wh")


def epochs_text(num: int) -> str:
    """``1 epoch``, ``3 epochs``."""
    return f"{num} epoch{'' if num == 1 else 's'}"
