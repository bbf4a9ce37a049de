"""Every error that a user or a caller may meet.

SegwrightError                expected; one line on stderr, exit 1
|-- ConfigError               campaign.toml or an option says something impossible
|-- DatasetError              the dataset cannot be read, or the audit blocks it
|-- StoreError                campaign.db is missing, newer than this program, or inconsistent
|-- CheckError                `segwright check` found a number, hash or file that does not agree
|-- PlannerError              no proposal or no network could be written
|-- ExploreError              a policy was asked for a decision that the tree does not allow
|-- ClaimError                a comparison that the protocol does not allow was asked for
|-- ReportError               a page, figure or manuscript could not be made
|-- SandboxError              the sandbox itself failed: never counted against a network
|   `-- IsolationUnavailable  no isolation on this machine; exit 78
|-- CollectError              a trial handed back something outside its contract
|-- ScoringError              predictions and labels do not match; nothing was scored
`-- BudgetSpent               a budget ended the run; exit 3
"""


class SegwrightError(Exception):
    """An expected failure: the message says what failed, the value, and what to do."""

    exit_code = 1


class ConfigError(SegwrightError):
    """campaign.toml or an option says something impossible."""


class DatasetError(SegwrightError):
    """The dataset cannot be read, or the audit blocks it."""


class StoreError(SegwrightError):
    """campaign.db is missing, newer than this program, or inconsistent."""


class CheckError(SegwrightError):
    """A number, hash or file of the campaign does not agree with its rows."""


class PlannerError(SegwrightError):
    """No proposal or no network could be written."""


class ExploreError(SegwrightError):
    """A policy was asked for a decision that the tree does not allow."""


class ClaimError(SegwrightError):
    """A comparison that the protocol does not allow was asked for."""


class ReportError(SegwrightError):
    """A page, figure or manuscript could not be made."""


class SandboxError(SegwrightError):
    """The sandbox itself failed; this is never counted against a network."""


class IsolationUnavailable(SandboxError):
    """This machine offers no isolation for generated code."""

    exit_code = 78


class CollectError(SegwrightError):
    """A trial handed back something outside its contract."""


class ScoringError(SegwrightError):
    """Predictions and labels do not match; nothing was scored."""


class BudgetSpent(SegwrightError):
    """A budget ended the run; what was found is kept and reported."""

    exit_code = 3
