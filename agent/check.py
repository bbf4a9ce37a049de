"""`segwright check`: derive again whatever can be derived, and name each place that differs.

Checked: campaign.db (pages, references, schema), trial ids, the split's hash, the declared
protocol against its hash, the split and the settings, scores against their hash and against the
files that the scorer wrote, networks against their commits and hashes, the git repository,
predictions, selection scores, claims, facts, and every line under report/. A campaign that is not finished is checked for
what exists; its facts are not, since its rows still grow.

Not covered: somebody who rewrites rows, files and hashes together; labels, which are never
read here, so that a check is no reading of the locked test.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from agent.amendments import AMENDED, amendments, broken_chain
from agent.config import parse_config
from agent.protocol import PROTOCOL, Hashes, declared, problems
from agent.trial_checks import is_locked, trial_problems
from memory.errors import SegwrightError, StoreError
from memory.integrity import database_problems
from memory.networks import Networks
from memory.records import Fact, SplitName, Status
from memory.store import Store
from sandbox.split import split_hash

Derive = Callable[[Store], list[Fact]]
Unbound = Callable[[Path, Mapping[str, Fact]], list[str]]
FINISHED = ("stopped", "done")


def check_campaign(
    folder: Path, *, derive: Derive | None = None, unbound: Unbound | None = None
) -> list[str]:
    """Return everything in a campaign folder that does not agree, one line each.

    Args:
        folder: the campaign folder; it is only read.
        derive: makes the facts of a store again; by default agent.facts.derive_facts.
        unbound: finds what under report/ no fact and no row gives; by default
            agent.binding.unbound_numbers, then agent.rebuilt.changed_lines.

    Returns:
        An empty list when all agree.
    """
    try:
        problems = database_problems(_database(folder))
        with Store.open(_database(folder), read_only=True) as store:
            for section in (_split, _protocol, _networks, _trials, _accesses, _chosen, _claims):
                problems += _section(section(folder, store))
            problems += _section(_facts(store, derive or _derive_facts))
            problems += _section(_report(folder, store, unbound or _unbound_numbers))
    except StoreError as error:
        return [str(error)]
    return problems


def report_problems(folder: Path) -> list[str]:
    """Return what does not agree in a campaign's split, its facts and its report, one line each.

    Raises:
        StoreError: there is no readable campaign.db.
    """
    with Store.open(_database(folder), read_only=True) as store:
        rows = _section(_split(folder, store)) + _section(_facts(store, _derive_facts))
        return rows or _section(_report(folder, store, _unbound_numbers))


def _database(folder: Path) -> Path:
    path = folder / "campaign.db"
    if not path.is_file():
        raise StoreError(f"{path} does not exist; name a campaign folder")
    return path


def _derive_facts(store: Store) -> list[Fact]:
    from agent.facts import derive_facts

    return derive_facts(store)


def _unbound_numbers(folder: Path, facts: Mapping[str, Fact]) -> list[str]:
    """Return where a report does not hold; of a sound one that is finished, lines of its own."""
    from agent.binding import is_finished, unbound_numbers
    from agent.rebuilt import changed_lines

    found = unbound_numbers(folder, facts)
    return found if found or not is_finished(folder) else list(changed_lines(folder))


def _section(problems: Iterator[str]) -> list[str]:
    """Collect a section's problems; one that cannot go on says so, and the others still run."""
    found: list[str] = []
    try:
        found.extend(problems)
    except SegwrightError as error:
        found.append(str(error))
    except (KeyError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {error!s:.200}"
        found.append(f"campaign.db has rows that cannot be read ({said}); take it from a copy")
    return found


def _split(_: Path, store: Store) -> Iterator[str]:
    cases, campaign = store.split(), store.campaign()
    derived = split_hash(cases)
    if cases and derived != campaign.split_hash:
        yield f"split: its rows give the hash {derived}, campaign has {campaign.split_hash}"
    places: dict[str, SplitName] = {}
    for case in cases:
        place = places.setdefault(case.patient, case.split)
        if place != case.split:
            yield f"split: patient {case.patient} is in {place} and, by case {case.case}, in {case.split}"


def _protocol(_: Path, store: Store) -> Iterator[str]:
    campaign, origin = store.campaign(), declared(store.events(kind=PROTOCOL))
    if origin is None:
        if "selection" in campaign.config:  # of a version that declares one
            yield "protocol: it was declared at init, and its event is missing"
        return
    config, made = parse_config(campaign.config), amendments(store.events(kind=AMENDED))
    hashes = Hashes(split_hash(store.split()), campaign.dataset_hash)
    kept = problems(origin, store.split(), hashes, config)
    for line in [*kept, *broken_chain(origin.figures.get("record", {}), made)]:
        yield f"protocol: {line}"


def _networks(folder: Path, store: Store) -> Iterator[str]:
    if (folder / "networks").is_dir():
        for line in Networks.open(folder / "networks").verify():
            yield f"networks: {line}"
    elif any(trial.commit for trial in store.trials()):
        yield f"networks: {folder / 'networks'} is missing, and trials name commits in it"


def _trials(folder: Path, store: Store) -> Iterator[str]:
    for trial in store.trials():
        yield from trial_problems(folder, store, trial)


def _accesses(_: Path, store: Store) -> Iterator[str]:
    named = {trial for access in store.test_accesses() for trial in access.trials}
    for trial in store.trials(status=Status.OK):
        if is_locked(trial) and trial.id not in named:
            yield f"test_access: trial {trial.id} has locked-test scores, and no row names it"


def _chosen(_: Path, store: Store) -> Iterator[str]:
    from agent import selection_scores

    seed = parse_config(store.campaign().config).split.seed
    yield from selection_scores.problems(store, seed=seed)


def _claims(_: Path, store: Store) -> Iterator[str]:
    from agent import claim_checks

    yield from claim_checks.problems(store)


def _facts(store: Store, derive: Derive) -> Iterator[str]:
    stored = store.facts()
    if not stored or store.campaign().state not in FINISHED:
        return
    derived = {fact.key: fact for fact in derive(store)}
    for key in sorted(stored.keys() | derived.keys()):
        if problem := _difference(stored.get(key), derived.get(key)):
            yield f"fact {key}: {problem}"


def _difference(stored: Fact | None, derived: Fact | None) -> str | None:
    if stored is None or derived is None:
        return "is stored, and no row gives it" if stored else "is given by rows, and not stored"
    for name in ("value", "text", "unit", "sources"):
        old, new = getattr(stored, name), getattr(derived, name)
        if old != new:
            return f"{name} is stored as {old!r:.80}, the rows give {new!r:.80}"
    return None


def _report(folder: Path, store: Store, unbound: Unbound) -> Iterator[str]:
    from agent.binding import PAGES

    written = any((folder / "report" / name).exists() for name in PAGES)
    if written or store.campaign().state == "done":
        yield from unbound(folder, store.facts())
