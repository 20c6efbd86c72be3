"""Keys, encryption at rest, and the audit chain."""
