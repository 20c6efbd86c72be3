"""What is done about a person's data: all of it given out, or taken away."""
