"""What Dagster's pages show of a table and of a run."""
