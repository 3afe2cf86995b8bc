"""Somebody of whom providers know all there is to know, so that every trace of them can be looked for afterwards."""

from __future__ import annotations

import json

from sluiceway.sandbox.process import SandboxProcess

FIRST, LAST = "Zuleïka", "Quint-Ørsted"
EMAIL = "zuleika.qo@quorvane.example"
FOUND_EMAIL = "zulla7431@home.example"
PHONE = "+44 20 7946 0958"
PROFILE = "https://www.linkedin.com/in/zuleika-qo-7f3a9"
EMPLOYER = "Quorvane Optics"
TRACES = ("zuleik", "zulek", "zulla7431", "quint", "rsted", "79460958", "qo7f3a9", "quorvane")
"""What is left of them anywhere has one of these in it, folded to plain letters and digits."""


def plant(sandbox: SandboxProcess) -> None:
    """Have Apollo and ContactOut answer with them, the next time each is asked."""
    person = {
        "name": f"{FIRST} {LAST}", "title": "CFO", "email": EMAIL, "email_status": "verified",
        "linkedin_url": PROFILE, "organization": {"name": EMPLOYER}, "personal_emails": [FOUND_EMAIL],
    }  # fmt: skip
    apollo = {"provider": "apollo", "body": json.dumps({"person": person}), "billed": True, "credits": 1000}
    sandbox.post("/_answer", apollo | {"usd_micros": 26_000})
    profile = {
        "full_name": f"{FIRST} {LAST}", "url": PROFILE, "company": {"name": EMPLOYER},
        "work_email": [EMAIL], "personal_email": [FOUND_EMAIL], "phone": [PHONE],
    }  # fmt: skip
    contactout = {"provider": "contactout", "body": json.dumps({"profile": profile}), "billed": True, "credits": 3000}
    sandbox.post("/_answer", contactout | {"usd_micros": 500_000})
