"""What the other events of a campaign mean: three sentences for each kind. Pure.

The first says what happened, the second why or what was seen, the third what follows. A figure
that is not stored raises UntoldError, and `agent/why.py` says less.
"""

from agent.standings import FEWEST
from agent.told import Told, UntoldError
from agent.wording import (
    beside_baseline,
    chance,
    chance_below,
    clip,
    counted,
    duration,
    more_than,
    sentence,
    spelt,
)
from memory.records import Figures

QUOTED = 90
LIMITS = (("hours", "hour"), ("gpu_hours", "GPU-hour"), ("usd", "dollar"), ("trials", "trial"))


def split_what(told: Told) -> str:
    """Say how many cases each part of the dataset has."""
    cases = told.part("cases")
    train, val, test = (
        told.count(name, cases) for name in ("search-train", "search-val", "locked-test")
    )
    return f"split the dataset for good: {train} cases to train on, {val} to choose by, {test} to test."


def split_why(told: Told) -> str:
    """Say what three parts are good for."""
    return "Networks are chosen on other cases than they are tested on, so that luck is no win."


def split_next(told: Told) -> str:
    """Say what the split could not do, or what it was drawn with."""
    notes = told.event.figures.get("notes")
    if isinstance(notes, list) and notes and isinstance(notes[0], str):
        return f"Note: {told.text('note', {'note': notes[0]})}."
    return f"It was drawn with seed {told.count('seed')}, and nothing changes it any more."


def rungs_what(told: Told) -> str:
    """Say how long the trainings of the rungs are."""
    sizes = told.event.figures.get("iterations")
    if not isinstance(sizes, list) or not sizes:
        raise UntoldError("iterations")
    known = ", then ".join(str(told.count("size", {"size": size})) for size in sizes)
    return f"fixed the rungs: trainings of {known} iterations."


def rungs_why(told: Told) -> str:
    """Say what was measured on this machine."""
    step, fixed = told.number("step_s"), told.number("fixed_s")
    return (
        f"Measured here: {step:.2g} s an iteration, {fixed:.0f} s besides for each training, "
        f"{told.count('slots')} side by side."
    )


def rungs_next(told: Told) -> str:
    """Say for whom they hold."""
    return "That is what the time budget holds; the baseline gets the same, and it stays so."


def baseline_what(told: Told) -> str:
    """Say which training of the baseline begins."""
    return f"decided to train the baseline, nnU-Net's own network, at {told.rung()}{seed(told)}."


def baseline_why(told: Told) -> str:
    """Say what the baseline is for."""
    return "Every network is compared with it, case by case; several seeds show how large luck is."


def baseline_next(told: Told) -> str:
    """Say what depends on it."""
    return f"No network is tried before {spelt(FEWEST)} such trainings of each rung have scores."


def confirming_what(told: Told) -> str:
    """Say which training for the locked test begins."""
    trial = told.called(told.text("trial"))
    return f"decided to train {trial} afresh for the locked test, at {told.rung()}{seed(told)}."


def confirming_why(told: Told) -> str:
    """Say why a network is trained again."""
    return "What leads a search was lucky as well; new seeds and unseen cases are a fair test."


def confirming_next(told: Told) -> str:
    """Say when its scores are known."""
    return "Nobody sees its scores before all trainings of the locked test have ended."


def dry_run_what(told: Told) -> str:
    """Say whether a network passed its dry run."""
    failure = told.event.figures.get("failure_class")
    if not failure:
        return f"{told.subject} passed its dry run."
    return f"{told.subject} failed its dry run: {plain_words(told, 'failure_class')}."


def dry_run_why(told: Told) -> str:
    """Say which check failed, or that none did."""
    verdicts = told.rows("verdicts")
    passed = [row for row in verdicts if row.get("passed") is True]
    done = counted(len(passed), "check")
    if len(passed) == len(verdicts):
        return f"It passed {done}: {', '.join(told.text('step', row) for row in verdicts)}."
    bad = next(row for row in verdicts if row.get("passed") is not True)
    return f"{sentence(done)[:-1]} passed, then {told.text('step', bad)} failed: {quote(told, 'text', bad)}"


def dry_run_next(told: Told) -> str:
    """Say what follows, and what the checks took."""
    if told.event.figures.get("failure_class"):
        return "It gets no training and no score; its idea is repaired, or given up after a few."
    seconds = sum(told.number("seconds", row) for row in told.rows("verdicts"))
    return f"Only what passes is trained; all checks together took {seconds:.0f} s."


def result_what(told: Told) -> str:
    """Say how a trial ended."""
    status = plain_words(told, "status")
    return f"{told.subject} ended: {'scores are in' if status == 'ok' else status}."


def result_why(told: Told) -> str:
    """Say what it took and gave."""
    took = f"It took {duration(told.number('seconds'))}" if told.has("seconds") else "It ended"
    if told.event.figures.get("status") == "ok":
        return f"{took} and has {counted(told.count('scores'), 'score')}."
    if told.event.figures.get("status") == "cancelled" and not told.has("failure_class"):
        return "It was planned and never trained; the event before says why."
    return f"{took} without scores: {plain_words(told, 'failure_class')}."


def result_next(told: Told) -> str:
    """Say what a result counts for."""
    if told.event.figures.get("status") == "ok":
        return "Scores count case by case, as differences to the baseline at the same rung."
    return "A failed trial has no score: it counts neither as 0 nor as the worst."


def checkpoint_what(told: Told) -> str:
    """Say where a training was looked at."""
    at, end = told.count("iteration"), told.count("iterations")
    return f"looked at {told.subject}{told.place()} at iteration {at} of {end}."


def checkpoint_why(told: Told) -> str:
    """Say what was seen."""
    if told.has("failed"):
        return f"It could not be scored there: {quote(told, 'failed')}"
    if not told.has("verdict"):
        return "Its scores are kept; there was nothing yet to judge them by."
    seen = told.part("verdict")
    low = chance_of_passing(told, seen)
    return (
        f"There it was {beside_baseline(told.number('delta', seen))}; its chance to end "
        f"{more_than(told.number('level', seen))} was {low}."
    )


def checkpoint_next(told: Told) -> str:
    """Say whether the training goes on."""
    if not told.has("verdict"):
        return "The training went on."
    seen = told.part("verdict")
    level = told.number("cut_below", seen)
    went = "stopped" if told.number("p_passes", seen) < level else "went on"
    return f"The training {went}: it stops where that chance is below {chance(level)}."


def chance_of_passing(told: Told, seen: Figures) -> str:
    """Return the chance of a verdict, distinct in words from the level it is below."""
    p, level = told.number("p_passes", seen), told.number("cut_below", seen)
    return chance_below(p, level) if p < level else chance(p)


def memory_what(told: Told) -> str:
    """Say which network found no room in memory."""
    batches = f"batches of {told.count('batch_size')}"
    if "next_batch" in told.event.figures:
        return f"{told.subject} is out of memory with {batches}."
    spared = told.event.figures.get("checkpointing") is True
    how = "even with activation checkpointing" if spared else "as it is"
    return f"{told.subject} found no room in memory {how}, with {batches}."


def memory_why(told: Told) -> str:
    """Say what the failure said, or what was tried."""
    if "next_batch" in told.event.figures:
        planned = told.count("batch_planned")
        return f"Batches of {planned} were planned, for the baseline and for every network."
    return f"It said: {quote(told, 'failure_excerpt')}"


def memory_next(told: Told) -> str:
    """Say what is tried next."""
    if "next_batch" not in told.event.figures:
        if told.event.figures.get("checkpointing") is True:
            return "Next come smaller batches, for the baseline as well."
        return "Next it is tried with activation checkpointing: the same result in less memory."
    if told.event.figures["next_batch"] is None:
        return "Nothing smaller is tried: it stays without scores, which counts as no score."
    size = told.count("next_batch")
    return f"Next come batches of {size}, and a baseline with the same to compare it with."


def started_what(told: Told) -> str:
    """Say that a run began."""
    return "the campaign was started, or went on where it stood."


def started_why(told: Told) -> str:
    """Say what it may spend."""
    budget = told.part("budget")
    limits = [
        limit_words(told.number(name, budget), thing) for name, thing in LIMITS if budget.get(name)
    ]
    return f"It may spend {', '.join(limits)}." if limits else "It has no limit of time or trials."


def limit_words(value: float, thing: str) -> str:
    """Return a limit with its unit, e.g. '48 hours'."""
    return f"{value:g} {thing}{'' if value == 1 else 's'}"


def started_next(told: Told) -> str:
    """Say what happens if it is killed."""
    return "Stopped or killed at any time, the same command goes on."


def done_what(told: Told) -> str:
    """Say that a campaign is done."""
    return "the campaign is done."


def done_why(told: Told) -> str:
    """Say what that means."""
    return "What led the search was trained afresh and tested once on the locked cases."


def done_next(told: Told) -> str:
    """Say where to read on."""
    return "The report says what was found; `segwright status` repeats the claim."


def spent_what(told: Told) -> str:
    """Say that the budget ended first."""
    return "the budget ended before the confirmation."


def spent_why(told: Told) -> str:
    """Say what was missing."""
    return "The locked test was not reached: too little time was left, or no network had scores."


def spent_next(told: Told) -> str:
    """Say what can be done."""
    return "Nothing is claimed. `segwright run` with a larger budget goes on from here."


def stopped_what(told: Told) -> str:
    """Say that the user stopped it."""
    return "the campaign was stopped by the user."


def stopped_why(told: Told) -> str:
    """Say what became of its trials."""
    return "All that was found so far is kept, and is in the report."


def stopped_next(told: Told) -> str:
    """Say how it goes on."""
    return "`segwright run` goes on where it stood."


def unsafe_what(told: Told) -> str:
    """Say that generated code runs without isolation."""
    return "the user let generated code run WITHOUT isolation."


def unsafe_why(told: Told) -> str:
    """Say why."""
    return f"The reason given: {quote(told, 'reason')}"


def unsafe_next(told: Told) -> str:
    """Say what would have been there, and that reports repeat it."""
    if not told.has("offered"):
        return "No isolation worked on this machine; every report repeats this."
    return f"{sentence(told.text('offered'))[:-1]} works here; every report repeats this."


def weaker_what(told: Told) -> str:
    """Say that the isolation is weaker than before."""
    return f"the campaign went on with {told.text('now')}, a weaker isolation."


def weaker_why(told: Told) -> str:
    """Say what it was before."""
    return f"It began with {told.text('before')}; this machine does not offer that."


def weaker_next(told: Told) -> str:
    """Say who allowed it."""
    return "The user allowed it with --allow-weaker-isolation; every report repeats this."


def no_proposal_what(told: Told) -> str:
    """Say which decision led to nothing."""
    return f"decision {told.count('decision')} led to no network."


def no_proposal_why(told: Told) -> str:
    """Say what the planner said."""
    return f"The planner had nothing to propose: {quote(told, 'error')}"


def no_proposal_next(told: Told) -> str:
    """Say what follows."""
    return "The decision counts as carried out; after a few of these the search ends."


def no_claim_what(told: Told) -> str:
    """Say that nothing is claimed."""
    return "no claim was made."


def no_claim_why(told: Told) -> str:
    """Say what was missing."""
    return "Fewer than two trainings of a network or of its baseline reached the locked test."


def no_claim_next(told: Told) -> str:
    """Say how many cases had no score."""
    cases = counted(told.count("undefined"), "locked case")
    return f"One training each may be luck, so nothing is said; {cases} had no score."


def reproduced_what(told: Told) -> str:
    """Say which trial was trained again."""
    return f"trained {told.subject} again from its commit and seed: {plain_words(told, 'verdict')}."


def reproduced_why(told: Told) -> str:
    """Say what differs."""
    if told.event.figures.get("verdict") == "failed":
        return "The second training gave no scores to compare."
    maps = counted(told.count("label_maps_differ"), "label map")
    return f"Compared on {told.text('device')}: {maps} and {told.count('scores_differ')} scores differ."


def reproduced_next(told: Told) -> str:
    """Say where it is kept, and that it changes nothing."""
    took = f" and took {duration(told.number('seconds'))}" if told.has("seconds") else ""
    return f"It is kept in {clip(told.text('folder'), QUOTED)}{took}; it changes no decision."


def seed(told: Told) -> str:
    """Return a training's seed, ready to follow its rung; "" if it is not stored."""
    return f", with seed {told.count('seed')}" if told.has("seed") else ""


def plain_words(told: Told, name: str) -> str:
    """Return a word of the program in plain letters, e.g. 'out of memory'."""
    return clip(told.text(name).replace("_", " "), QUOTED)


def quote(told: Told, name: str, of: Figures | None = None) -> str:
    """Return what somebody else said, as the end of a sentence."""
    return f'"{clip(told.text(name, of), QUOTED)}".'
