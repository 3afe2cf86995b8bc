"""People's rights: not to be asked about, to be erased, to know what is held, and not to be kept for ever."""
