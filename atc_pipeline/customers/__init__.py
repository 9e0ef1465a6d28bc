"""Who they are: from the daily rollup to profiles and micro-segments, the system of record (SPEC 3, 4)."""
