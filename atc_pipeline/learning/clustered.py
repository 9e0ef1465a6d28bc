"""Errors of means of rows of which those of one customer are not independent.

What belongs here: that. What does not: any mean.
"""

import numpy as np

from atc_pipeline.learning.basis import Floats


def error_of_mean(values: Floats, customer: np.ndarray) -> float:
    """Return the standard error of a mean, customers being independent of each other; infinite of a single one.

    ``customer``: by row, a number of theirs from 0 on, each of which is there.
    """
    customers = int(customer.max(initial=-1)) + 1
    if customers < 2:  # of one nothing can be told
        return float("inf")
    sums = np.bincount(customer, values - values.mean())
    return float(np.sqrt(np.sum(sums**2) * customers / (customers - 1)) / len(values))
