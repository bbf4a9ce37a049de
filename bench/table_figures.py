"""What the replayed table is like: its size, its noise, and what its rungs say about each other."""

from collections import defaultdict
from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev, variance

from bench.figures import Figure, figure
from bench.table_rows import BASELINE, Row, Table, mean


def figures(table: Table) -> dict[str, Figure]:
    """Return the figures of a table.

    A network's Dice is the mean over its seeds. `seed_sd` pools the variance between seeds over
    networks; `spread` is the SD between networks; `rung_correlation` is Spearman's, over networks
    that were scored at both ends of the ladder; `low` and `high` are those of single seeds.
    """
    searched = [row for row in table.rows if row.network != BASELINE]
    scored = {row.network for row in searched if row.dice}
    names = {one.id for one in table.networks} - {BASELINE}
    found = {
        "networks": figure([len(names)], "networks"),
        "failed_networks": figure([len({row.network for row in searched} - scored)], "networks"),
        "trials": figure([len(table.rows)], "trials"),
        "failed_trials": figure([sum(not row.dice for row in table.rows)], "trials"),
        "cases": figure([len(table.cases)], "cases"),
        "cpu_hours": figure([sum(row.cpu_seconds for row in table.rows) / 3600], "h"),
    }
    for rung in sorted({row.rung for row in table.rows}):
        found |= of_rung(rung, [row for row in table.rows if row.rung == rung])
    return found | correlation(searched)


def of_rung(rung: int, rows: Sequence[Row]) -> dict[str, Figure]:
    """Return what the trials of one rung are like."""
    seeds = by_network(rows)
    searched = {name: values for name, values in seeds.items() if name != BASELINE}
    means = [fmean(values) for values in searched.values()]
    found = {"trial_s": figure([row.seconds for row in rows], "s")}
    if BASELINE in seeds:
        found["baseline"] = figure(seeds[BASELINE], "Dice")
    if means:
        found["networks_dice"] = figure(means, "Dice")
    if len(means) > 1:
        found["spread"] = figure([stdev(means)], "Dice")
    if repeated := [values for values in seeds.values() if len(values) > 1]:
        found["seed_sd"] = figure([pooled_sd(repeated)], "Dice")
    return {f"{name}.rung{rung}": one for name, one in found.items()}


def by_network(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Return each network's Dice, a value for every seed that was scored."""
    found = defaultdict[str, list[float]](list)
    for row in rows:
        if row.dice:
            found[row.network].append(mean(row))
    return dict(found)


def pooled_sd(groups: Sequence[Sequence[float]]) -> float:
    """Return the SD within groups of at least two, each weighed by its degrees of freedom."""
    freedom = sum(len(group) - 1 for group in groups)
    return sqrt(sum(variance(group) * (len(group) - 1) for group in groups) / freedom)


def correlation(rows: Sequence[Row]) -> dict[str, Figure]:
    """Return Spearman's correlation of the first rung with the last; nothing where there is none."""
    last = max((row.rung for row in rows), default=0)
    single = [between([row for row in rows if row.seed == seed], last) for seed in seeds_of(rows)]
    known = [one for one in single if one is not None]
    whole = between(rows, last)
    if whole is None:
        return {}
    low, high = (min(known), max(known)) if known else (whole, whole)
    return {"rung_correlation": Figure(whole, low, high, "1")}


def seeds_of(rows: Sequence[Row]) -> list[int]:
    """Return the seeds that there are trials of."""
    return sorted({row.seed for row in rows})


def between(rows: Sequence[Row], last: int) -> float | None:
    """Return Spearman's correlation of two rungs over the networks scored at both."""
    from scipy.stats import spearmanr

    first, second = (by_network([row for row in rows if row.rung == rung]) for rung in (0, last))
    both = sorted(first.keys() & second.keys())
    if last == 0 or len(both) < 3:
        return None
    return float(spearmanr(*([fmean(side[name]) for name in both] for side in (first, second)))[0])
