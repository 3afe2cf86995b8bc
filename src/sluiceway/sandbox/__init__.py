"""The five providers, imitated on your own machine, with a meter that counts what they would have billed.

Nothing here imports a web framework until a server is started, so that a test or a command which only wants
`sluiceway.sandbox.process.SandboxProcess` or `sluiceway.sandbox.people.people_csv` pays nothing for it.
"""
