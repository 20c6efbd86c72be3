"""How callers read payments and follow their events."""
