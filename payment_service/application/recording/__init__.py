"""How anything is written: facts become changes and events, many callers in one transaction."""
