"""Write a Form 4 the way filers do, with the unevenness that real ones have.

Values may be missing with only a footnote in their place, booleans come as 1 or true, dates may drag a time zone along,
tickers may be blank, and a title may say "See Remarks". Each filing's `quirk` decides which of these it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from datetime import date

    from sluiceway.sandbox.filings import Filing, Owner, Trade

_ZONED, _WORDED, _REMARKED, _NO_TICKER, _LOWER_TICKER = 0, 1, 2, 3, 4
_SCHEMA = {"xslF345X03": "X0306", "xslF345X05": "X0508", "xslF345X06": "X0609"}
_SECURITY, _OPTION = "Common Stock", "Stock Option (Right to Buy)"


def form_4(filing: Filing) -> str:
    """Write the XML document."""
    notes = list(dict.fromkeys(trade.footnote for trade in filing.trades if trade.footnote))
    plain = [trade for trade in filing.trades if not trade.is_derivative]
    options = [trade for trade in filing.trades if trade.is_derivative]
    parts = [
        '<?xml version="1.0"?>\n<ownershipDocument>',
        f"<schemaVersion>{_SCHEMA[filing.xsl]}</schemaVersion>",
        f"<documentType>{filing.form}</documentType>",
        f"<periodOfReport>{_day(filing, filing.period)}</periodOfReport>",
        f"<dateOfOriginalSubmission>{filing.original}</dateOfOriginalSubmission>" if filing.original else "",
        f"<notSubjectToSection16>{_flag(filing, False)}</notSubjectToSection16>",
        _issuer(filing),
        *(_owner(filing, owner) for owner in filing.owners),
        "" if filing.xsl == "xslF345X03" else f"<aff10b5One>{_flag(filing, filing.planned)}</aff10b5One>",
        _table("nonDerivative", [_trade(filing, each, notes) for each in plain] or [_holding(filing)]),
        _table("derivative", [_option(filing, each, notes) for each in options]),
        _footnotes(notes),
        f"<remarks>{_remarks(filing)}</remarks>",
        _signature(filing),
        "</ownershipDocument>\n",
    ]
    return "\n".join(part for part in parts if part)


def complete_submission(filing: Filing) -> str:
    """Write the text file of a whole submission: a header, then the XML."""
    return (
        f"<SEC-DOCUMENT>{filing.accession}.txt : {filing.filed:%Y%m%d}\n<SEC-HEADER>\n"
        f"ACCESSION NUMBER:\t\t{filing.accession}\nCONFORMED SUBMISSION TYPE:\t{filing.form}\n"
        f"CONFORMED PERIOD OF REPORT:\t{filing.period:%Y%m%d}\nFILED AS OF DATE:\t\t{filing.filed:%Y%m%d}\n"
        f"</SEC-HEADER>\n<DOCUMENT>\n<TYPE>{filing.form}\n<SEQUENCE>1\n<FILENAME>{filing.document}\n<TEXT>\n<XML>\n"
        f"{form_4(filing)}</XML>\n</TEXT>\n</DOCUMENT>\n</SEC-DOCUMENT>\n"
    )


def rendered(filing: Filing) -> str:
    """Write the page a browser is shown instead of the XML."""
    names = escape(", ".join(owner.name for owner in filing.owners))
    rows = "".join(f"<tr><td>{each.day}</td><td>{each.code}</td><td>{each.shares}</td></tr>" for each in filing.trades)
    return (
        f"<!DOCTYPE html><html><head><title>SEC FORM {filing.form}</title></head><body><h1>FORM {filing.form}</h1>"
        f"<p>{names}</p><p>{escape(filing.issuer.legal_name)}</p><table>{rows}</table></body></html>"
    )


def _day(filing: Filing, day: date) -> str:
    return f"{day}-05:00" if filing.quirk == _ZONED else str(day)


def _flag(filing: Filing, value: bool) -> str:
    return ("true" if value else "false") if filing.quirk == _WORDED else str(int(value))


def _issuer(filing: Filing) -> str:
    ticker = filing.issuer.ticker or "NONE"
    if filing.quirk == _NO_TICKER:
        ticker = "NONE"
    elif filing.quirk == _LOWER_TICKER:
        ticker = ticker.lower()
    return (
        f"<issuer><issuerCik>{filing.issuer.cik:010d}</issuerCik><issuerName>{escape(filing.issuer.legal_name)}"
        f"</issuerName><issuerTradingSymbol>{ticker}</issuerTradingSymbol></issuer>"
    )


def _owner(filing: Filing, owner: Owner) -> str:
    place = filing.issuer
    title = "See Remarks" if filing.quirk == _REMARKED and owner.title else escape(owner.title)
    return (
        f"<reportingOwner><reportingOwnerId><rptOwnerCik>{owner.cik:010d}</rptOwnerCik>"
        f"<rptOwnerName>{escape(owner.name)}</rptOwnerName></reportingOwnerId><reportingOwnerAddress>"
        f"<rptOwnerStreet1>C/O {escape(place.legal_name.upper())}</rptOwnerStreet1><rptOwnerStreet2></rptOwnerStreet2>"
        f"<rptOwnerCity>{escape(place.city.upper())}</rptOwnerCity><rptOwnerState>{place.sec_place}</rptOwnerState>"
        "<rptOwnerZipCode>00000</rptOwnerZipCode><rptOwnerStateDescription></rptOwnerStateDescription>"
        "</reportingOwnerAddress><reportingOwnerRelationship>"
        f"<isDirector>{_flag(filing, owner.is_director)}</isDirector>"
        f"<isOfficer>{_flag(filing, owner.is_officer)}</isOfficer>"
        f"<isTenPercentOwner>{_flag(filing, owner.is_trust)}</isTenPercentOwner>"
        f"<isOther>{_flag(filing, False)}</isOther><officerTitle>{title}</officerTitle><otherText></otherText>"
        "</reportingOwnerRelationship></reportingOwner>"
    )


def _table(name: str, rows: list[str]) -> str:
    return f"<{name}Table>{''.join(rows)}</{name}Table>" if rows else ""


def _value(name: str, value: object, note: str = "") -> str:
    inner = "" if value is None else f"<value>{value}</value>"
    return f"<{name}>{inner}{note}</{name}>"


def _note(trade: Trade, notes: list[str]) -> str:
    return f'<footnoteId id="F{notes.index(trade.footnote) + 1}"/>' if trade.footnote else ""


def _amounts(trade: Trade, notes: list[str]) -> str:
    price = None if trade.price is None else f"{trade.price:.4f}".rstrip("0").rstrip(".")
    return (
        f"<transactionAmounts>{_value('transactionShares', trade.shares)}"
        f"{_value('transactionPricePerShare', price, _note(trade, notes))}"
        f"{_value('transactionAcquiredDisposedCode', 'A' if trade.acquired else 'D')}</transactionAmounts>"
    )


def _coding(filing: Filing, trade: Trade) -> str:
    return (
        f"<transactionCoding><transactionFormType>4</transactionFormType><transactionCode>{trade.code}"
        f"</transactionCode><equitySwapInvolved>{_flag(filing, False)}</equitySwapInvolved></transactionCoding>"
    )


def _after(shares: int) -> str:
    inner = _value("sharesOwnedFollowingTransaction", shares)
    return f"<postTransactionAmounts>{inner}</postTransactionAmounts>"


def _nature(filing: Filing) -> str:
    indirect = any(owner.is_trust for owner in filing.owners)
    code = _value("directOrIndirectOwnership", "I" if indirect else "D")
    how = _value("natureOfOwnership", "By trust") if indirect else ""
    return f"<ownershipNature>{code}{how}</ownershipNature>"


def _trade(filing: Filing, trade: Trade, notes: list[str]) -> str:
    return (
        f"<nonDerivativeTransaction>{_value('securityTitle', _SECURITY)}"
        f"{_value('transactionDate', _day(filing, trade.day))}<deemedExecutionDate></deemedExecutionDate>"
        f"{_coding(filing, trade)}<transactionTimeliness></transactionTimeliness>{_amounts(trade, notes)}"
        f"{_after(trade.after)}{_nature(filing)}</nonDerivativeTransaction>"
    )


def _holding(filing: Filing) -> str:
    return (
        f"<nonDerivativeHolding>{_value('securityTitle', _SECURITY)}{_after(filing.held)}{_nature(filing)}"
        "</nonDerivativeHolding>"
    )


def _option(filing: Filing, trade: Trade, notes: list[str]) -> str:
    underlying = _value("underlyingSecurityTitle", _SECURITY) + _value("underlyingSecurityShares", trade.shares)
    return (
        f"<derivativeTransaction>{_value('securityTitle', _OPTION)}"
        f"{_value('conversionOrExercisePrice', trade.price)}{_value('transactionDate', _day(filing, trade.day))}"
        f"{_coding(filing, trade)}{_amounts(trade, notes)}<exerciseDate></exerciseDate>"
        f"{_value('expirationDate', trade.day.replace(year=trade.day.year + 10, day=1))}"
        f"<underlyingSecurity>{underlying}</underlyingSecurity>{_after(trade.shares)}{_nature(filing)}"
        "</derivativeTransaction>"
    )


def _footnotes(notes: list[str]) -> str:
    rows = "".join(f'<footnote id="F{index}">{escape(note)}</footnote>' for index, note in enumerate(notes, 1))
    return f"<footnotes>{rows}</footnotes>" if rows else ""


def _remarks(filing: Filing) -> str:
    titles = [owner.title for owner in filing.owners if owner.title]
    return escape(f"Title: {titles[0]}") if filing.quirk == _REMARKED and titles else ""


def _signature(filing: Filing) -> str:
    return (
        f"<ownerSignature><signatureName>/s/ {escape(filing.signer)}</signatureName>"
        f"<signatureDate>{_day(filing, filing.filed)}</signatureDate></ownerSignature>"
    )
