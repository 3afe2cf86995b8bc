"""From a batch of prospects to closed source results, through calls that are all in the ledger."""
