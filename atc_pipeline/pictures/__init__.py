"""What people are shown: pictures and small tables, made of text; no reading and no deciding."""
