"""Whom we call: the lake, the landing zone, the channels, the ledger, the SQL door."""
