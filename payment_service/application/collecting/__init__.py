"""What a caller asks for: a payment is made, its prompt is sent, it is tried again or withdrawn."""
