"""What operators should look at: rules that look at the store, and alarms that are told once."""
