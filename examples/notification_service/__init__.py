"""Tells passengers what became of their money: one line for the SMS gateway and one e-mail for each piece of news."""
