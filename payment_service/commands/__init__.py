"""What an operator types: each command connects, does one thing and shows it."""
