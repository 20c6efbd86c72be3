"""Money that goes back: a refund is recorded, sent, and asked about until its fate is known."""
