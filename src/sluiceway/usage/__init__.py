"""What was spent: the ledger every figure folds from, and the folds themselves."""
