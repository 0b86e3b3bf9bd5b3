"""The only readers of autograd: the walk, the saved-tensor ledger, the timed run, the targets."""
