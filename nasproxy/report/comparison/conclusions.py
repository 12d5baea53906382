"""What may be concluded from several runs, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasproxy.core.wording import signed
from nasproxy.correlation import Estimate
from nasproxy.report.comparison.pairs import ALPHA, Pair, all_pairs, like_for_like
from nasproxy.report.comparison.runs import Run
from nasproxy.report.length import standing, trained_for
from nasproxy.report.verdict import FEW, Verdict
from nasproxy.report.wording import p_text, rho_text


@dataclass(frozen=True)
class Comparison:
    """``groups``: the keys of runs that are like for like, each run in one of them."""

    runs: tuple[Run, ...]
    pairs: tuple[Pair, ...]
    groups: tuple[tuple[str, ...], ...]
    verdict: Verdict

    def run(self, key: str) -> Run:
        return next(run for run in self.runs if run.key == key)


def compare(runs: Sequence[Run], *, num_resamples: int | None = None, seed: int = 0) -> Comparison:
    """Every run against every other, and what follows."""
    pairs = all_pairs(runs, num_resamples=num_resamples, seed=seed)
    groups = like_for_like(runs, pairs)
    return Comparison(tuple(runs), pairs, groups, _verdict(runs, pairs, groups))


def listed(words: Sequence[str]) -> str:
    """``A``, ``A and B``, ``A, B and C``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _by_run(words: dict[str, str]) -> str:
    """What is told of each run, by its key, equal things together: ``n = 39 in A and B; n = 60 in C``."""
    keys: dict[str, list[str]] = {}
    for key, text in words.items():
        keys.setdefault(text, []).append(key)
    return "; ".join(f"{text} in {listed(own)}" for text, own in keys.items())


def significant(p: float | None) -> bool:
    """Whether an adjusted p-value shows a difference."""
    return p is not None and p < ALPHA


def _facts(run: Run) -> str:
    return f"ρ = {rho_text(run.rho)}, n = {run.rho.n}"


def _called(run: Run) -> str:
    return f"{run.key} ({run.name})"


def _ranks(run: Run) -> bool:
    return run.rho.low is not None and run.rho.low > 0


def better_than_random(run: Run) -> bool:
    gap = run.report.difference
    return gap is not None and gap.low is not None and gap.low > 0


def worse_than_random(run: Run) -> bool:
    gap = run.report.difference
    return gap is not None and gap.high is not None and gap.high < 0


def _gap(pairs: Sequence[Pair], best: Run, other: Run) -> tuple[Estimate, float | None]:
    """ρ of ``best`` minus that of ``other``, whichever way round the pair is kept."""
    pair = next(pair for pair in pairs if {pair.first, pair.second} == {best.key, other.key})
    gap = pair.difference
    if pair.first == best.key or gap.value is None:
        return gap, pair.p
    low, high = (None, None) if gap.low is None or gap.high is None else (-gap.high, -gap.low)
    return Estimate(-gap.value, low, high, gap.n, gap.undefined), pair.p


def _conclusion(group: Sequence[Run], pairs: Sequence[Pair]) -> tuple[str, str]:
    """Level and sentence about runs that are like for like."""
    known = sorted((run for run in group if run.rho.value is not None), key=lambda run: -(run.rho.value or 0.0))
    able = [run for run in known if _ranks(run)]
    if not known:
        names = listed([_called(run) for run in group])
        return "unknown", f"Nothing can be said about how the proxy sets of {names} rank architectures."
    if len(known) == 1:
        only = "" if len(group) == 1 else "is the only one with a defined ρ: it "
        ranks = "ranks" if able else "is not shown to rank"
        level = "weak" if able else "not_shown"
        return level, f"{_called(known[0])} {only}{ranks} architectures better than chance, {_facts(known[0])}."
    if not able:
        return "not_shown", (
            "None of these proxy sets is shown to rank architectures better than chance: the highest is "
            f"{_called(known[0])}, {_facts(known[0])}."
        )
    best = able[0]
    gaps = {run.key: _gap(pairs, best, run) for run in group if run in known and run is not best}
    beaten = [key for key, (gap, p) in gaps.items() if significant(p) and (gap.value or 0.0) > 0]
    level_with = [key for key in gaps if key not in beaten]
    adjusted = ", adjusted for all pairs" if len(pairs) > 1 else ""
    high = "the highest ρ" if best is known[0] else "the highest ρ of those that are shown to rank"
    if not level_with:
        worst = max(p or 0.0 for _, p in gaps.values())
        return "believe" if better_than_random(best) else "weak", (
            f"{_called(best)} can be trusted most: {_facts(best)}, and it is shown to rank better than "
            f"{listed(beaten)} ({p_text(worst)}{adjusted})."
        )
    if beaten:
        return "weak", (
            f"{_called(best)} has {high}: {_facts(best)}. It is shown to rank better than {listed(beaten)}; that it "
            f"ranks better than {listed(level_with)} is not shown."
        )
    if len(level_with) == 1:
        gap, p = gaps[level_with[0]]
        ends = "" if p is None else f", {p_text(p)}{adjusted}"
        return "weak", (
            f"Which of these proxy sets ranks better is not shown: {_called(best)} has {high}, {_facts(best)}, but its "
            f"difference to {level_with[0]} is {rho_text(gap)}{ends}."
        )
    return "weak", (
        f"Which of these proxy sets ranks best is not shown: {_called(best)} has {high}, {_facts(best)}, but no "
        f"difference to {listed(level_with)} is shown."
    )


def _verdict(runs: Sequence[Run], pairs: Sequence[Pair], groups: Sequence[Sequence[str]]) -> Verdict:
    details = []
    if len(groups) == 1:
        level, sentence = _conclusion(runs, pairs)
    else:
        named = [name for name in ("data set", "space", "truth") if any(name in pair.unlike for pair in pairs)]
        several = [group for group in groups if len(group) > 1]
        among = "cannot be said"
        if several:
            among = "can be said only " + " and ".join(f"among {listed(group)}" for group in several)
        level = "unknown"
        sentence = (
            f"These runs cannot all be compared, because they differ in {listed(named)}: which proxy set ranks best "
            f"{among}."
        )
        details.append(_UNLIKE)
        details += [_conclusion([run for run in runs if run.key in group], pairs)[1] for group in groups]
    capped = {run.key: trained_for(run.report) for run in runs if run.rho.n and standing(run.report).capped}
    if capped:
        level = "short" if level == "believe" else level
        sentence += (
            f" That is said of the truths of these runs, of which some are not shown to rank as longer training does: "
            f"{_by_run(capped)}."
        )
    details += _against_random(runs) + _against_untrained(runs)
    details += [f"{_called(run)} has no ρ: {run.rho.undefined}." for run in runs if run.rho.value is None]
    num_paired = sum(pair.paired for pair in pairs)
    if num_paired == 0:
        details.append(
            "No two runs have enough candidates and the truth in common: differences are between separate samples, and "
            "their intervals wide."
        )
    elif num_paired < len(pairs):
        details.append(
            f"{num_paired} of {len(pairs)} pairs are compared on the same candidates and truth; the intervals of the "
            "others are wider for that reason."
        )
    few = {run.key: f"n = {run.rho.n}" for run in runs if 0 < run.rho.n < FEW}
    if few:
        details.append(
            f"Fewer than {FEW} candidates tell only large differences apart: {_by_run(few)}. "
            "Add more with nasproxy validate RUN --sample N."
        )
    details.append(
        "These are proxy sets, not methods: another seed of the same method makes another set, which may rank "
        f"differently. The highest of {len(runs)} is also the luckiest, on average."
    )
    return Verdict(level, sentence, tuple(details))


_UNLIKE = (
    "Correlations of different spaces, data sets or truths are not comparable like for like: a space of very unequal "
    "architectures is easier to rank, and so is a truth with less noise."
)


def _against_random(runs: Sequence[Run]) -> list[str]:
    measured = [run for run in runs if run.report.difference is not None and run.report.difference.low is not None]
    if not measured:
        return ["No run measured equally many random images."]
    better = [run.key for run in measured if better_than_random(run)]
    worse = [run.key for run in measured if worse_than_random(run)]
    words = f"Better than equally many random images: shown for {listed(better) if better else 'none'}"
    words += f"; worse: shown for {listed(worse)}" if worse else ""
    missing = [run.key for run in runs if run not in measured]
    return [words + (f"; not known for {listed(missing)}." if missing else ".")]


def _against_untrained(runs: Sequence[Run]) -> list[str]:
    """Where a score that trains nothing has a higher ρ than the proxy."""
    found = {}
    for run in runs:
        best = run.untrained
        rho = None if best is None else best.agreement.spearman.value
        if best is not None and rho is not None and run.rho.value is not None and rho > run.rho.value:
            found[run.key] = f"{best.label} {signed(rho)}"
    if not found:
        return []
    return [
        f"A score that trains nothing has a higher ρ than the proxy set: {_by_run(found)}. Each is the best of "
        "several, so some of that is luck."
    ]


def same_picks(comparison: Comparison) -> str:
    """Whether runs that are like for like pick one architecture, in words."""
    told = []
    for group in comparison.groups:
        picks: dict[str, list[str]] = {}
        for key in group:
            pick = comparison.run(key).report.pick
            if pick is not None:
                picks.setdefault(pick.id, []).append(key)
        every = [key for key in group if any(key in keys for keys in picks.values())]
        if len(every) < 2:
            continue
        told += [f"{listed(keys)} pick the same architecture." for keys in picks.values() if len(keys) > 1]
        if len(picks) == len(every):
            told.append(f"{listed(every)} pick {len(every)} different architectures.")
    return " ".join(told) or "No two runs with a pick have data set, space and truth in common."
