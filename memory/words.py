"""Full-text search as SQLite's FTS5 takes it: the words of any text, quoted and joined."""

import re

QUERY_WORDS = 64  # more words than this say nothing more, and FTS5 would parse them all


def any_of(text: str) -> str:
    """Return a query for rows that share a word with a text; empty for a text without words.

    Only its words are used, the first 64, each quoted, so that any text will do.
    """
    words = list(dict.fromkeys(re.findall(r"[^\W_]+", text)))[:QUERY_WORDS]
    return " OR ".join(f'"{word}"' for word in words)
