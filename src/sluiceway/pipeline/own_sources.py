"""Sources as they are asked with tenants' own credentials, beside the platform's.

What is set or taken away while a process runs is taken over by it within a second (`controls` looks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping

from sqlalchemy import Connection

from sluiceway.errors import BadSetting, Redactor
from sluiceway.pipeline.turns import Terms
from sluiceway.sources._contract import Source
from sluiceway.store.secret import SecretKey
from sluiceway.tenancy.credentials import OpenCredential, credentials_version, opened_credentials

Build = Callable[[OpenCredential], Iterable[tuple[Source, Terms]]]
"""Returns the sources that ask a credential's provider, with that credential, each with terms of its own."""


class OwnSources:
    """The sources of tenants that have credentials of their own. `by_name` holds them all, by `asked_as`.

    `terms` and `redact` are the process's, and learn of each. An attempt under way keeps the source it began with.
    """

    def __init__(
        self,
        *,
        build: Build,
        secret: Callable[[], SecretKey],
        terms: MutableMapping[str, Terms],
        redact: Redactor,
        tell: Callable[[str], None],
    ) -> None:
        self.by_name: dict[str, Source] = {}
        self._by_tenant: dict[str, dict[str, Source]] = {}
        self._by_account: dict[str, Source] = {}
        self._build = build
        self._secret = secret
        self._terms = terms
        self._redact = redact
        self._tell = tell
        self._version = -1
        self._said = ""

    def of(self, tenant_id: str) -> Mapping[str, Source]:
        """Return, by name, the sources that are asked for a tenant with its own credentials."""
        return self._by_tenant.get(tenant_id, {})

    def speaking_with(self, account: str) -> Source | None:
        """Return a source that speaks with a provider by an account, if it is one of these."""
        return self._by_account.get(account)

    def look(self, connection: Connection) -> list[OpenCredential] | None:
        """Read the credentials, where any changed since the last time; `None` where none did.

        Raises `BadSetting` where they cannot be opened.
        """
        version = credentials_version(connection)
        if version == self._version:
            return None
        found = opened_credentials(connection, self._secret)
        self._version = version
        return found

    def look_again(self, connection: Connection) -> list[OpenCredential] | None:
        """Like `look`, while work goes on: what cannot be opened is told once, and those held before stay."""
        try:
            return self.look(connection)
        except BadSetting as trouble:
            if str(trouble) != self._said:
                self._said = str(trouble)
                self._tell(f"a tenant's own key is not used: {trouble}")
            return None

    def take(self, credentials: Iterable[OpenCredential]) -> set[str]:
        """Ask with these credentials from now on, and with no others; one that stays keeps its pace.

        Returns the accounts that are new.
        """
        by_tenant: dict[str, dict[str, Source]] = {}
        by_name: dict[str, Source] = {}
        new: set[str] = set()
        for credential in credentials:
            self._redact.learn([credential.value])
            for source, terms in self._build(credential):
                held = self.by_name.get(source.asked_as, source)
                by_name[source.asked_as] = held
                self._terms.setdefault(source.asked_as, terms)
                new |= {source.account} - self._by_account.keys()
                self._by_account.setdefault(source.account, held)
                by_tenant.setdefault(credential.tenant_id, {})[source.name] = held
        self._by_tenant = by_tenant
        for gone in self.by_name.keys() - by_name.keys():
            del self.by_name[gone]  # and no more: what is under way goes on, at its pace and behind its breaker
        self.by_name.update(by_name)
        return new
