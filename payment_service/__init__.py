"""The transactional core: takes payments through M-Pesa and never loses track of one."""
