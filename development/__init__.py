"""What a developer's machine needs around the service: an embedded PostgreSQL and programs that start every part."""
