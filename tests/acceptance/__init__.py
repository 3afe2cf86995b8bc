"""The real command line as a process of its own, killed and hindered, with the sandbox's meter as the judge."""
