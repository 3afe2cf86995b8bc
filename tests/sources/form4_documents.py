"""Form 4 documents for tests: invented ones, built line by line, and where the real ones are."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from sluiceway.sources._form4 import read_form4
from sluiceway.sources._insiders import Filed

# Real filings, too large to keep in the repository; whoever has them keeps them beside it.
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "sec"
EXPECTED: list[dict[str, Any]] = (
    json.loads((SAMPLES / "expected.json").read_bytes()) if (SAMPLES / "expected.json").exists() else []
)
WITHOUT_SAMPLES = pytest.param(
    {}, marks=pytest.mark.skip(reason="the real SEC filings (shared/data/sec beside the repository) are not here")
)

ISSUER = "0001843210"
INES = ("0001999001", "OKAFOR-LIND INES M")


def samples(folder: str) -> list[Any]:
    found = [pytest.param(sample, id=sample["file"]) for sample in EXPECTED if sample["file"].startswith(f"{folder}/")]
    return found or [WITHOUT_SAMPLES]


# --- builders -------------------------------------------------------------------------------------------------------


def a_line(
    code: str = "S",
    shares: str = "100",
    price: str | None = "10.5",
    *,
    way: str | None = None,
    date: str = "2026-09-01",
    security: str = "Common Stock",
    following: str = "900",
    held: str = "D",
    nature: str = "",
    table: str = "nonDerivative",
) -> str:
    direction = way or ("A" if code in "PAM" else "D")
    cost = f"<value>{price}</value>" if price is not None else '<footnoteId id="F1"/>'
    return f"""<{table}Transaction>
        <securityTitle><value>{security}</value></securityTitle>
        <transactionDate><value>{date}</value></transactionDate>
        <transactionCoding><transactionFormType>4</transactionFormType>
            <transactionCode>{code}</transactionCode><equitySwapInvolved>0</equitySwapInvolved></transactionCoding>
        <transactionAmounts><transactionShares><value>{shares}</value></transactionShares>
            <transactionPricePerShare>{cost}</transactionPricePerShare>
            <transactionAcquiredDisposedCode><value>{direction}</value></transactionAcquiredDisposedCode>
        </transactionAmounts>
        <postTransactionAmounts><sharesOwnedFollowingTransaction><value>{following}</value>
            </sharesOwnedFollowingTransaction></postTransactionAmounts>
        <ownershipNature><directOrIndirectOwnership><value>{held}</value></directOrIndirectOwnership>
            <natureOfOwnership>{nature}</natureOfOwnership></ownershipNature>
    </{table}Transaction>"""


def an_owner(cik: str, name: str, title: str = "Chief Scientist") -> str:
    return f"""<reportingOwner>
        <reportingOwnerId><rptOwnerCik>{cik}</rptOwnerCik><rptOwnerName>{escape(name)}</rptOwnerName></reportingOwnerId>
        <reportingOwnerRelationship><isDirector>true</isDirector><isOfficer>1</isOfficer>
            <officerTitle>{title}</officerTitle></reportingOwnerRelationship>
    </reportingOwner>"""


def a_document(
    *lines: str,
    kind: str = "4",
    period: str = "2026-09-01",
    original: str | None = None,
    owners: tuple[tuple[str, str], ...] = (INES,),
    title: str = "Chief Scientist",
    remarks: str = "",
    notes: tuple[str, ...] = ("The price is a weighted average.",),
) -> bytes:
    derivative = "".join(line for line in lines if line.startswith("<derivative"))
    plain = "".join(line for line in lines if line.startswith("<nonDerivative"))
    footnotes = "".join(f'<footnote id="F{number}">{note}</footnote>' for number, note in enumerate(notes, 1))
    amended = f"<dateOfOriginalSubmission>{original}</dateOfOriginalSubmission>" if original else ""
    return f"""<?xml version="1.0"?><ownershipDocument>
        <schemaVersion>X0609</schemaVersion><documentType>{kind}</documentType>
        <periodOfReport>{period}</periodOfReport>{amended}
        <issuer><issuerCik>{ISSUER}</issuerCik><issuerName>HARBOURLINE ROBOTICS INC</issuerName>
            <issuerTradingSymbol>HBLR</issuerTradingSymbol></issuer>
        {"".join(an_owner(cik, name, title) for cik, name in owners)}
        <aff10b5One>0</aff10b5One>
        <nonDerivativeTable>{plain}</nonDerivativeTable><derivativeTable>{derivative}</derivativeTable>
        <footnotes>{footnotes}</footnotes><remarks>{remarks}</remarks>
    </ownershipDocument>""".encode()


def filed(accession: str, day: str, document: bytes) -> Filed:
    form4 = read_form4(document)
    return Filed(accession, dt.date.fromisoformat(day), form4.document_type, form4)
