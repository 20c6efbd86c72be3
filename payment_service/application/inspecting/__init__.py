"""What an operator sees: whether the stored promises hold, and the story of one payment or callback."""
