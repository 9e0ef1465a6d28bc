"""Statistical power: how small an effect a control group can show.

What belongs here: planning a comparison before there is any outcome. What does not: estimating an effect.
"""

import math

Z_ALPHA = 1.959964
"""Of a two-sided test at 5 %: the 97.5th percentile of the standard normal."""
Z_POWER = 0.841621
"""Of a power of 80 %: the 80th percentile."""


def smallest_visible(treated: float, control: float, rate: float) -> float | None:
    """Return the smallest difference of two shares that a two-sided z-test at 5 % finds with a power of 80 %; None without an arm.

    ``(z_0.975 + z_0.8) sqrt(p (1 - p) (1/n_t + 1/n_c))``, both shares near ``rate`` (Fleiss, Levin and Paik: Statistical Methods for
    Rates and Proportions, 3rd edition, 2003, chapter 4, solved for the difference). At ``rate`` 0.5 it is the largest it can be.
    """
    if min(treated, control) <= 0:
        return None
    return (Z_ALPHA + Z_POWER) * math.sqrt(rate * (1 - rate) * (1 / treated + 1 / control))
