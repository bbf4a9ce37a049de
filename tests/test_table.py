"""The replayed table: its networks, its files, its figures, and that making it resumes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from agent.grammar import GrammarPlanner
from agent.session import Session
from bench import table
from bench.demo_data import build_demo
from bench.figures import Figure
from bench.table import LADDER, Maker, Task, complete, tasks
from bench.table_figures import figures, pooled_sd
from bench.table_networks import COSTLIEST, STAGES, Network, edited, networks, united
from bench.table_rows import (
    BASELINE,
    FOLDER,
    NETWORKS,
    TRIALS,
    Ladder,
    Listed,
    Row,
    Table,
    is_made,
    is_whole,
    read_table,
    write_table,
)
from memory.errors import PlannerError, SegwrightError
from memory.records import Status
from sandbox.dry_run import Dry
from sandbox.placement import module_cost, problems
from sandbox.static_check import static_check
from tests.effects import UNKNOWN
from tests.scripted import ScriptedExecutor, new_campaign, session_of

SMALL = Ladder((10, 40), (1, 2), (1, 2))


@pytest.fixture(scope="module")
def made() -> list[Network]:
    return networks()


def test_the_networks_are_always_the_same(made: list[Network]) -> None:
    assert networks() == made
    assert len({network.source for network in made}) == len(made) >= 44


def test_the_networks_are_a_tree_of_branches(made: list[Network]) -> None:
    known: dict[str, str] = {}
    for network in made:
        assert network.parent == "" or known[network.parent] == network.branch
        known[network.id] = network.branch
    assert len(known) == len(made)
    sizes = [list(known.values()).count(branch) for branch in set(known.values())]
    assert len(sizes) == 14
    assert set(sizes) <= {2, 3, 4}
    drafts = [network for network in made if not network.parent]
    assert len(drafts) == len(sizes)
    assert sum(bool(draft.edits) or draft.proposal is None for draft in drafts) >= 14 / 3


def test_the_networks_read_as_networks(made: list[Network]) -> None:
    faults = {network.id: static_check(network.source, named=network.named) for network in made}
    assert not any(faults.values()), faults


def test_modules_fit_each_other_and_the_time(made: list[Network]) -> None:
    for network in made:
        assert not problems(network.modules, dims=2, n_stages=STAGES), network.id
        is_union = network.proposal is not None and network.proposal.planner == "union"
        cost = sum(module_cost(module, STAGES) for module in network.modules)
        assert cost <= COSTLIEST or is_union, network.id
    unions = [one for one in made if one.proposal and one.proposal.planner == "union"]
    assert len(unions) == 3
    by_id = {network.id: network for network in made}
    for one in unions:
        assert set(one.modules) > set(by_id[one.parent].modules)


def test_a_union_of_equals_is_refused() -> None:
    proposal = GrammarPlanner(STAGES).propose([], UNKNOWN, Random(1), dims=2)
    with pytest.raises(PlannerError, match="do not go together"):
        united(proposal, proposal)


def test_an_edit_that_finds_nothing_is_an_error() -> None:
    with pytest.raises(PlannerError, match="'gelu'.*LeakyReLU"):
        edited('"""A text."""\n', ["gelu"])


def test_an_edited_source_says_so() -> None:
    source = edited('"""A text."""\nDEPTH = 4\n', ["deeper"])
    assert source == '"""Changed: deeper.\n\nA text."""\nDEPTH = 7\n'


def test_tasks_hold_each_trial_once_seed_by_seed(made: list[Network]) -> None:
    found = tasks(made, LADDER)
    assert len({(task.id, task.rung, task.seed) for task in found}) == len(found)
    assert len(found) == len(made) * 2 * 3 + 5 * 2
    assert [task.seed for task in found] == sorted(task.seed for task in found)


def row(network: str, rung: int, seed: int, *dice: float | None, failure: str = "") -> Row:
    """Return a row of two cases; a failed one has no Dice."""
    status = Status.DIVERGED if failure else Status.OK
    return Row(network, rung, SMALL.iterations[rung], seed, status, failure, 2.5, 1.5, 7, dice)


def a_table() -> Table:
    """Return a whole table of two networks: one scored, one that always diverges."""
    listed = (
        Listed(BASELINE, "", "", "nnU-Net default", "", ""),
        Listed("01-0", "01", "", "One, with a comma", "cbam@skip:1", "ab"),
        Listed("01-1", "01", "01-0", 'Two "quoted"', "", "cd"),
    )
    rows = [
        *(row(BASELINE, rung, seed, 0.5, 0.1 * seed) for rung in (0, 1) for seed in (1, 2)),
        *(row("01-0", rung, seed, 0.12345, None) for rung in (0, 1) for seed in (1, 2)),
        *(row("01-1", rung, seed, failure="collapsed") for rung in (0, 1) for seed in (1, 2)),
    ]
    return Table(listed, ("case_1", "case_2"), tuple(rows))


def test_files_hold_what_the_table_holds(tmp_path: Path) -> None:
    write_table(tmp_path, a_table())
    assert read_table(tmp_path) == a_table()
    assert (tmp_path / TRIALS).read_text().splitlines()[-1] == (
        "01-1,1,40,2,diverged,collapsed,2.5,1.5,7,,"
    )


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(SegwrightError, match=r"replay_table\.csv is missing"):
        read_table(tmp_path)


def test_a_table_is_whole_when_no_trial_is_missing() -> None:
    whole = a_table()
    assert is_whole(whole, SMALL)
    for place in range(len(whole.rows)):
        rest = (*whole.rows[:place], *whole.rows[place + 1 :])
        assert not is_whole(whole._replace(rows=rest), SMALL)


def test_a_whole_table_is_not_made_again(tmp_path: Path) -> None:
    write_table(tmp_path, a_table())
    said: list[str] = []
    complete(tmp_path / "nothing", say=said.append, out=tmp_path, ladder=SMALL)
    assert said == [f"{tmp_path / TRIALS} is whole; remove it, and {NETWORKS}, to make it again"]


def test_figures_by_hand() -> None:
    names = ["a", "b", "c", "d"]
    listed = tuple(Listed(name, "01", "", name, "", "") for name in names)
    first, last = (0.1, 0.2, 0.3), (0.5, 0.7, 0.6)
    rows = [
        row(name, rung, seed, value + shift, value + shift)
        for rung, values in ((0, first), (1, last))
        for name, value in zip(names, values, strict=False)
        for seed, shift in ((1, 0.0), (2, 0.02))
    ]
    rows.append(row("d", 0, 1, failure="exception"))
    found = figures(Table(listed, ("x", "y"), tuple(rows)))
    assert found["networks"].value == 4
    assert found["failed_networks"].value == 1
    assert found["failed_trials"].value == 1
    assert found["seed_sd.rung0"].value == pytest.approx(0.02 / 2**0.5)
    assert found["spread.rung0"].value == pytest.approx(0.1)
    assert found["rung_correlation"] == Figure(0.5, 0.5, 0.5, "1")
    assert "baseline.rung0" not in found


def test_a_table_without_scores_has_figures() -> None:
    found = figures(
        Table((Listed("a", "01", "", "a", "", ""),), (), (row("a", 0, 1, failure="x"),))
    )
    assert found["failed_networks"].value == 1
    assert "rung_correlation" not in found


def test_the_pooled_sd_weighs_by_degrees_of_freedom() -> None:
    assert pooled_sd([[0.0, 2.0], [1.0, 1.0, 1.0]]) == pytest.approx((2 / 3) ** 0.5)


class Scripted:
    """A campaign without training, and makers that work on it."""

    def __init__(self, folder: Path, made: list[Network]) -> None:
        """Take the first networks; the last of these fails its dry run."""
        self.made, self.out = made[:3], folder / "out"
        campaign = new_campaign(folder, cases=24)
        self.executor = ScriptedExecutor(campaign)
        self.said: list[str] = []
        self.session = session_of(campaign, self.executor)

    def dry(self, plan: Any, code: Path, **_: Any) -> Dry:
        """Refuse the last network."""
        is_last = code.read_text() == self.made[-1].source
        failure = "contract" if is_last else ""
        return Dry(failure, "no head", 1000, 2000, None if is_last else 0.01, 50.0)

    def maker(self, before: Table | None = None, **changes: Any) -> Maker:
        """Return a new maker, as a new process has it."""
        session: Session = replace(self.session, dry_run=self.dry, **changes)
        return Maker(session, self.out, self.made, self.said.append, before)


def killing(after: int) -> Callable[[int], None]:
    """Return what ends the program when one trial more than `after` is started."""

    def before(count: int) -> None:
        if count > after:
            raise KeyboardInterrupt

    return before


def test_a_table_is_made_and_resumes(tmp_path: Path, made: list[Network]) -> None:
    scripted = Scripted(tmp_path, made)
    wanted = tasks(scripted.made, SMALL)
    executor = scripted.executor
    executor.before = killing(5)
    with pytest.raises(KeyboardInterrupt):
        scripted.maker(slots=1).make(wanted)
    part = read_table(scripted.out)
    assert len(part.rows) < len(wanted)
    executor.before, executor.submitted = killing(99), []
    scripted.maker(part).make(wanted)
    whole = read_table(scripted.out)
    assert is_whole(whole, SMALL)
    assert set(part.rows) < set(whole.rows)
    # Two networks and the baseline, two rungs, two seeds, less the five that were done.
    assert len(executor.submitted) == len(set(executor.submitted)) == 12 - 5
    rejected = [one for one in whole.rows if one.status == Status.REJECTED]
    assert {one.network for one in rejected} == {scripted.made[-1].id}
    assert all(one.failure_class == "contract" and not one.dice for one in rejected)
    assert all(0 < value < 1 for one in whole.rows for value in one.dice if value is not None)


def test_rows_of_a_changed_network_are_made_anew(tmp_path: Path, made: list[Network]) -> None:
    scripted = Scripted(tmp_path, made)
    wanted = [Task(network, 0, 1) for network in scripted.made[:2]]
    scripted.maker().make(wanted)
    before = read_table(scripted.out)
    scripted.executor.submitted.clear()
    scripted.made[0] = replace(scripted.made[0], source=scripted.made[0].source + "\n")
    wanted = [Task(network, 0, 1) for network in scripted.made[:2]]
    scripted.maker(before).make(wanted)
    assert len(scripted.executor.submitted) == 1
    assert len(read_table(scripted.out).rows) == 2


def test_a_failed_trial_is_a_row(tmp_path: Path, made: list[Network]) -> None:
    scripted = Scripted(tmp_path, made)
    scripted.executor.fails = lambda count: True
    scripted.maker().make([Task(None, 1, 2)])
    (found,) = read_table(scripted.out).rows
    assert (found.network, found.rung, found.seed) == (BASELINE, 1, 2)
    assert (found.status, found.failure_class, found.dice) == (Status.FAILED, "exception", ())


def test_the_command_takes_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path, a_table())
    monkeypatch.setattr(table, "is_whole", lambda *_: True)
    ran = CliRunner().invoke(table.main, ["--out", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    assert "is whole" in ran.output


def test_the_table_that_is_kept_is_whole() -> None:
    if not is_made():
        pytest.skip("the table is not made, or in part")
    kept = read_table()
    assert len(kept.networks) > 44
    scored = {one.network for one in kept.rows if one.dice}
    assert len(kept.networks) - len(scored) >= 4
    assert (FOLDER / TRIALS).stat().st_size < 1 << 19
    found = figures(kept)
    assert found["spread.rung1"].value > found["seed_sd.rung1"].value
    assert 0 < found["rung_correlation"].value < 1


@pytest.mark.slow
def test_real_trials_make_a_table(tmp_path: Path, parent: Path, made: list[Network]) -> None:
    data = build_demo(tmp_path / "demo", subjects=16)
    by_id = {network.id: network for network in made}
    chosen = [by_id["07-0"], by_id["11-2"]]
    out, short, said = tmp_path / "out", Ladder((4, 8), (1,), (1,)), list[str]()
    for _ in range(2):
        complete(
            data, say=said.append, out=out, work=tmp_path / "work", ladder=short, wanted=chosen
        )
    found = {(one.network, one.rung): one for one in read_table(out).rows}
    assert len(found) == 6
    for rung in (0, 1):
        assert found[BASELINE, rung].status == found["07-0", rung].status == Status.OK
        assert found["11-2", rung].failure_class == "contract"
        assert found["07-0", rung].parameters > 0
    assert "is whole" in said[-1]
