"""Where audiences and the one answer are kept in step, and how each destination is told."""
