"""What both programs need to run: logs, settings, start and drain, callback tokens. It imports neither program."""
