"""What a call to a language model costs, in US dollars: by the server, the user, or a list.

The list of published prices is the package genai-prices, where it is installed; of a price that
grows with the length of a call it is the lowest step. Where nobody knows a price it is None, never
0: a budget in dollars is then refused at the start.
"""

from typing import NamedTuple

from agent.model_settings import LOOPBACK, EndpointConfig

MILLION = 1e6
SAMPLE = 1000


class Price(NamedTuple):
    """US dollars a million tokens, read and written; `source` is user, local or published."""

    usd_in: float
    usd_out: float
    source: str

    def of(self, tokens_in: int, tokens_out: int) -> float:
        """Return the price of a call."""
        return (tokens_in * self.usd_in + tokens_out * self.usd_out) / MILLION


def price_of(endpoint: EndpointConfig, model: str, host: str) -> Price | None:
    """Return what a model costs at an endpoint; None where nobody knows.

    A server on this machine costs nothing unless the settings say so. Of a price that the settings
    give in part, the other part is as it would be without them.
    """
    usd_in, usd_out = endpoint.usd_in, endpoint.usd_out
    if usd_in >= 0 and usd_out >= 0:
        return Price(usd_in, usd_out, "user")
    known = Price(0.0, 0.0, "local") if host in LOOPBACK else published(model, endpoint.url)
    if known is None or max(usd_in, usd_out) < 0:
        return known
    return Price(
        usd_in if usd_in >= 0 else known.usd_in, usd_out if usd_out >= 0 else known.usd_out, "user"
    )


def published(model: str, url: str = "") -> Price | None:
    """Return the published price of a model; None where the list is not there or lacks it.

    The provider at `url` has its own prices; where the list does not know it, those of the
    model's maker count.
    """
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    for where in dict.fromkeys((url or None, None)):
        try:
            read, written = (
                calc_price(usage, model, provider_api_url=where).total_price
                for usage in (Usage(input_tokens=SAMPLE), Usage(output_tokens=SAMPLE))
            )
        except LookupError:
            continue
        scale = MILLION / SAMPLE
        return Price(float(read) * scale, float(written) * scale, "published")
    return None
