"""What every request to Safaricom needs: a token, a turn of the budget, and a record of what was said."""
