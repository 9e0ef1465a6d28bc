"""A job per purpose; all carry the tag that lets one of them run at a time.

What belongs here: which tables each makes. What does not: when they run (``schedule``, ``landing``).
"""

from typing import Any

import dagster as dg

from assets.daily import STATE_TAG

ONLY_CHANGED = {"ops": {op: {"config": {"only_changed": True}} for op in ("customer_activity", "customer_metrics", "profile")}}
"""The config of the job ``catch_up``; a range that is started from the command line must be given it."""

Job = Any
"""What ``define_asset_job`` returns; Dagster does not export its type."""

SELECTIONS = {
    "daily": "*",
    "ingest_events": "group:events",
    "decide_again": "group:decisions or key:outbound_messages",
    "activate": "key:activation or key:sent_events",
    "synchronize": "key:audience_members or key:audience_changes or key:audience_syncs or key:answers",
}
"""What each job makes whole, as the command line is told it, too."""
_PURPOSES = {
    "daily": "The whole day: events, profiles, segments, queues, decision, messages, activation.",
    "ingest_events": "Read what has landed; nothing is decided or sent.",
    "decide_again": "Queues, decision and messages on the profiles as they are: after a change of journeys.yaml. Nothing is sent.",
    "activate": "Send a day's messages; those delivered before are not sent again.",
    "synchronize": "Tell destinations what differs from what they acknowledged of audiences and of the one answer.",
}


def jobs_by_purpose(without: dg.AssetSelection) -> list[Job]:
    """Build one job per purpose; all carry the tag that lets one of them run at a time. ``without``: checks that are no part of a run."""
    built = [
        dg.define_asset_job(name, dg.AssetSelection.from_string(selection) - without, description=_PURPOSES[name], tags=STATE_TAG)
        for name, selection in SELECTIONS.items()
    ]
    catch_up = dg.define_asset_job(
        "catch_up",
        dg.AssetSelection.assets("customer_activity", "feature_coverage", "customer_metrics", "customer_profiles", "purchase_models"),
        description="After traits, interests, intents or metrics were added or changed: makes these again on days that are there, and "
        "nothing else.",
        tags=STATE_TAG,
        config=ONLY_CHANGED,
    )
    return [*built, catch_up]
