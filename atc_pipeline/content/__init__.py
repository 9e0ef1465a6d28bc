"""What messages say: templates, layouts, and what no message may break (SPEC 9.3, 9.4)."""
