"""Makes the planner that the settings ask for.

The built-in planner is always made: it proposes alone, or where a language model is lost.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.dataset_card import dataset_card, traits_of
from agent.diagnosed import DiagnosedPlanner
from agent.grammar import GrammarPlanner
from agent.planner import Planner
from agent.session import Session
from memory.errors import ConfigError
from memory.store import Store

if TYPE_CHECKING:
    from agent.llm import Client


def make_planner(session: Session, model: "Client | None" = None) -> Planner:
    """Return the planner of a session; `model` is from `make_model`, None without one."""
    grammar = built_in(session)
    if model is None:
        return grammar
    from agent.fallback import FallbackPlanner
    from agent.llm_planner import LlmPlanner

    for endpoint in model.endpoints.values():
        endpoint.pause = session.stopping.wait
    return FallbackPlanner(
        session, LlmPlanner(session, model), grammar, pause=session.stopping.wait
    )


def built_in(session: Session) -> Planner:
    """Return the planner that needs no key, with the traits of the dataset's card."""
    with session.store() as store:
        traits = traits_of(dataset_card(store, session))
    grammar = GrammarPlanner(len(session.plan.spec["features"]), traits)
    return DiagnosedPlanner(session, grammar)


def make_model(
    config: Config,
    open_store: Callable[[], Store],
    *,
    pause: Callable[[float], bool],
    now: Callable[[], float],
    replay: Path | None = None,
) -> "Client | None":
    """Return what asks the endpoints of the settings; None for the built-in planner.

    With `replay`, the campaign.db of an earlier campaign, its replies are used and no endpoint.

    Raises:
        ConfigError: a key or a price is missing, or `replay` is given without that planner.
        SegwrightError: an endpoint does not answer.
    """
    if config.planner != "llm":
        if replay is not None:
            raise ConfigError("--replay needs the planner llm; this campaign has planner = grammar")
        return None
    from agent.llm import Client
    from agent.probe import make_client

    if replay is None:
        return make_client(config, open_store, pause=pause, now=now)
    if not replay.is_file():
        raise ConfigError(
            f"--replay {replay}: there is no such file; name a campaign or its campaign.db"
        )
    return Client(open_store, {}, config.roles, prices={}, replay=replay, now=now)
