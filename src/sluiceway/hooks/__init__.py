"""Telling others: tenants' webhooks and operators' alerts, through an outbox that is written with what it tells of."""
