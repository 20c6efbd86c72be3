"""The public edge: takes Safaricom's callbacks and hands them to the core, knowing only the wire contract."""
