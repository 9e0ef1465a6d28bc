"""Why a customer's day went as it did, in words, and what would have changed it (``python -m atc_pipeline explain``)."""
