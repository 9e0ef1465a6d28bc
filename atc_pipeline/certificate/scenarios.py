"""Kinds of tables that an estimate is tried on: what shops see, and where estimates are known to go wrong.

What belongs here: which there are, as data. What does not: drawing them (``drawn``), or the laws they are drawn by (``laws``).
"""

from atc_pipeline.certificate.drawn import Scenario
from atc_pipeline.certificate.laws import Bell, Money, Ratings, YesNo

SHOP = Money(orders=1.2, shape=0.6)

SCENARIOS = (
    Scenario("bell", "everybody spends about the same, half are held out", Bell(), customers=400, lift=0.06, holdouts=(0.5,)),
    Scenario("shop", "skewed money, a fifth held out", SHOP, customers=2_000, lift=0.15),
    Scenario("harm", "the same, and the journey does harm", SHOP, customers=2_000, lift=-0.2),
    Scenario("sparse", "6 in 100 buy", Money(orders=0.1, shape=0.15, sigma=1.0), customers=5_000, lift=0.5),
    Scenario("unequal", "a twentieth held out: 150 customers", SHOP, customers=3_000, lift=0.2, holdouts=(0.05,)),
    Scenario(
        "strata",
        "the holdout share changes twice, and what customers spend with the season",
        SHOP,
        customers=3_000,
        lift=0.15,
        holdouts=(0.1, 0.3, 0.2),
        levels=(1.0, 1.8, 0.7),
    ),
    Scenario("habits", "who bought before buys again", Money(orders=6.0, shape=0.5, sigma=0.4, before=6.0), customers=1_000, lift=0.05),
    Scenario("new", "nobody bought before", Money(orders=1.2, shape=0.6, before=0.0), customers=2_000, lift=0.15),
    Scenario("refunds", "a tenth of the orders come back: some money is negative", Money(1.2, 0.6, refunds=0.2), customers=2_000, lift=0.2),
    Scenario("few", "the effect is all in a tenth of the customers", SHOP, customers=2_000, lift=0.15, touched=0.1),
    Scenario("whether", "yes or no: 15 in 100", YesNo(0.15), customers=2_000, lift=0.25),
    Scenario("ratings", "an average of ratings, of which customers give some or none", Ratings(0.8), customers=1_500, lift=0.03),
)
"""Each is drawn twice: with its lift, and as A/A, without any."""
