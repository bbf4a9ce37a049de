"""Weights of the losses at the heads (deep supervision, Lee et al. 2015)."""


def even_weights(heads: int) -> list[float]:
    """Return one weight a head, all equal; nnU-Net halves them and drops the last."""
    return [1.0 / heads] * heads


def fine_weights(heads: int) -> list[float]:
    """Return one weight a head, finest first, each a quarter of the one before."""
    weights = [0.25**level for level in range(heads)]
    return [weight / sum(weights) for weight in weights]
