"""How small an effect a control group can show, against the same comparison drawn many times.

What belongs here: the power of a planned comparison. What does not: the report (``test_report``).
"""

import numpy as np
import pytest

from atc_pipeline.plan.power import smallest_visible


@pytest.mark.parametrize(("treated", "control", "rate"), [(9_000, 1_000, 0.1), (2_000, 2_000, 0.4), (20_000, 500, 0.05)])
def test_an_effect_of_that_size_is_found_four_times_in_five(treated: int, control: int, rate: float) -> None:
    """Drawn 20,000 times, the z-test of two proportions at 5 % finds it in about 80 %, and finds nothing in 5 % where there is nothing."""
    effect = smallest_visible(treated, control, rate)
    assert effect is not None
    random = np.random.default_rng(11)

    def found_share(true_effect: float) -> float:
        drawn_treated = random.binomial(treated, rate + true_effect / 2, 20_000)
        drawn_control = random.binomial(control, rate - true_effect / 2, 20_000)
        pooled = (drawn_treated + drawn_control) / (treated + control)
        error = np.sqrt(pooled * (1 - pooled) * (1 / treated + 1 / control))
        return float((np.abs(drawn_treated / treated - drawn_control / control) > 1.959964 * error).mean())

    assert found_share(effect) == pytest.approx(0.8, abs=0.05)
    assert found_share(0.0) == pytest.approx(0.05, abs=0.01)


def test_without_an_arm_nothing_is_visible() -> None:
    """A journey that holds nobody out, or sends to nobody, shows nothing however long it runs."""
    assert smallest_visible(1000, 0, 0.1) is None
    assert smallest_visible(0, 1000, 0.1) is None
    assert smallest_visible(100, 100, 0.5) == pytest.approx(0.1981, abs=1e-4)
