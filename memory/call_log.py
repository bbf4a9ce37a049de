"""The calls to language models: kept before anybody parses them, and found again."""

from memory.connection import Connection
from memory.records import LlmCall
from memory.rows import TABLES, Column, from_rows


class CallLog:
    """The part of the store that keeps calls to language models."""

    _connection: Connection

    def usd_spent(self) -> float:
        """Return the price of all calls to language models, in US dollars."""
        return float(self._connection.select("SELECT total(price_usd) FROM llm_call")[1][0][0])

    def planning_seconds(self) -> float:
        """Return the seconds that the calls of one decision took on average; 0 without calls."""
        sql = (
            "SELECT total(seconds) / count(DISTINCT scope) FROM llm_call "
            "WHERE scope LIKE 'decision/%' AND is_cached = 0"
        )
        return float(self._connection.select(sql)[1][0][0] or 0.0)

    def add_llm_call(self, call: LlmCall) -> None:
        """Keep a call to a language model. Idempotent: the first reply stays."""
        self._connection.insert_once(call)

    def llm_calls(self, *, scope: str | None = None) -> list[LlmCall]:
        """Return the calls, or those of one scope, in the order in which they were added."""
        return self._calls("TRUE", ()) if scope is None else self._calls("scope = ?", (scope,))

    def calls_with(self, prompt_hash: str) -> list[LlmCall]:
        """Return the calls with one prompt, in the order in which they were added."""
        return self._calls("prompt_hash = ?", (prompt_hash,))

    def _calls(self, where: str, values: tuple[Column, ...]) -> list[LlmCall]:
        sql = f'SELECT * FROM "{TABLES[LlmCall]}" WHERE {where} ORDER BY rowid'
        return from_rows(LlmCall, *self._connection.select(sql, values))
