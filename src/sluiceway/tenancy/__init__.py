"""Who may do what: tenants, users and their roles, API keys, sessions, the audit, and tenants' own credentials.

Functions over a connection and a moment; whoever serves HTTP is above this.
"""
