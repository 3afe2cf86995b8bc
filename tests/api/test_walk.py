"""The walk that docs/api.md begins with, done line by line by the programs it names."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from served import ACME, Served

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
MISSING = [program for program in ("bash", "curl", "jq") if shutil.which(program) is None]


def test_the_walk_is_in_the_readme_as_well() -> None:
    readme = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    assert [line for line in walk() if f"$ {line}\n" not in readme] == []


def walk() -> list[str]:
    """The commands of the page's walk."""
    block = PAGE.read_text(encoding="utf-8").split("<!-- walk -->")[1].split("```")[1]
    return re.findall(r"^\$ (.+)$", block, re.MULTILINE)


@pytest.mark.skipif(bool(MISSING) and not os.environ.get("CI"), reason=f"{', '.join(MISSING)} is not installed here")
def test_the_walk_in_the_documentation_finds_imports_views_enriches_and_exports_somebody(
    served: Served, tmp_path: Path
) -> None:
    key, address = served.keys[f"tenant_admin@{ACME}"], f"{served.url}/api/v1"
    script = "set -euo pipefail\n" + "\n".join(f"{line}\necho" for line in walk())
    environment = {"KEY": key, "API": address, "PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    viewed, enriched, usage = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert (viewed["enrichment_status"], enriched["enrichment_status"]) == ("none", "complete")
    assert viewed["id"] == enriched["id"]
    with (tmp_path / "enriched.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert len(row["enriched_full_name"].split()) > 1, "a search shows half a name, and Apollo tells it whole"
    assert row["enriched_work_email"] == enriched["fields"]["work_email"]["value"]
    assert usage
