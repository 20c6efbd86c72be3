"""People settle what no evidence decides: cases, and the payments that somebody asks about."""
