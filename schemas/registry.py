"""Writer schemas by id, from any registry that speaks the Confluent protocol."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from schemas.documents import Cache, parse_text
from schemas.errors import SchemaError, SchemaRefused, SourceUnavailable, UnknownSchema

NO_SUCH_SCHEMA = {40401, 40402, 40403}  # the protocol's codes for a subject, a version, a schema that does not exist
NO_SUCH_ID = {400, 422}  # the status of an id that no registry can have
DEFAULTS = {"timeout": 5.0, "max.retries": 0, "cache.capacity": 16}  # who waits is the caller; the cache is here


class SchemaRegistry:
    """Schemas of a Confluent-compatible registry, each fetched once.

    url: the address of the Confluent API, such as http://HOST:8081 or (Apicurio) http://HOST:8080/apis/ccompat/v7;
    or a mapping of confluent-kafka's registry settings with at least `url`. An id that the registry does not know is
    asked for again after `forget` seconds.
    """

    def __init__(self, url: str | Mapping[str, Any], *, forget: float = 30.0) -> None:
        """Connects on first use. Raises SchemaError for a wrong setting or when the `registry` extra is missing."""
        settings = DEFAULTS | ({"url": url} if isinstance(url, str) else dict(url))
        self.url = _without_password(str(settings.get("url", "")))
        self._client, self._error = _connect(settings, self.url)
        self._known: Cache[Mapping[str, Any]] = Cache(256)
        self._unknown: Cache[tuple[type[SchemaError], str]] = Cache(10_000, forget)
        self._lock = threading.Lock()

    def by_id(self, schema_id: int) -> Mapping[str, Any]:
        """Return the schema. Raises UnknownSchema, SchemaRefused (no Avro record), SourceUnavailable (try again)."""
        with self._lock:
            known = self._known.get(schema_id)
            if known is not None:
                return known
            if refusal := self._unknown.get(schema_id):
                raise refusal[0](refusal[1])
            try:
                schema = self._fetch(schema_id)
            except (UnknownSchema, SchemaRefused) as error:
                self._unknown.put(schema_id, (type(error), str(error)))
                raise
            self._known.put(schema_id, schema)
            return schema

    def by_fingerprint(self, fingerprint: str) -> Mapping[str, Any]:
        raise UnknownSchema(f"schema {fingerprint}: the registry {self.url} knows ids, not fingerprints")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _fetch(self, schema_id: int) -> Mapping[str, Any]:
        where = f"schema id {schema_id} of {self.url}"
        if not 0 <= schema_id < 1 << 31:
            raise UnknownSchema(f"{where}: no registry gives such an id; the message is damaged")
        try:
            found = self._client.get_schema(schema_id)
        except self._error as error:
            raise self._explain(where, error) from error
        except Exception as error:  # httpx errors, and whatever an answer that is no registry's makes of the client
            raise self._unavailable(f"does not answer ({type(error).__name__}: {error})") from error
        if (found.schema_type or "AVRO").upper() != "AVRO":
            raise SchemaRefused(f"{where}: is {found.schema_type}, not AVRO; publish events in Avro")
        if found.references:
            raise SchemaRefused(f"{where}: refers to other subjects; register it with the types it uses written out")
        return parse_text(found.schema_str or "", where)

    def _explain(self, where: str, error: Any) -> SchemaError:
        status, code = error.http_status_code, error.error_code
        if code in NO_SUCH_SCHEMA or status in NO_SUCH_ID:
            return UnknownSchema(f"{where}: the registry does not know it ({error.error_message})")
        if status in (401, 403):
            return self._unavailable(f"refuses the credentials (status {status})")
        if status == 404:
            return self._unavailable("has no schema API under this path (status 404): check the path of its URL")
        return self._unavailable(f"answers with status {status}: {str(error.error_message)[:200]}")

    def _unavailable(self, what: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"the schema registry {self.url} {what}; events wait and are tried again, nothing is lost"
        )


def _connect(settings: dict[str, Any], url: str) -> tuple[Any, type[Exception]]:
    try:
        with warnings.catch_warnings(record=True):  # its dependencies warn about each other, whatever the filters say
            from confluent_kafka.schema_registry import SchemaRegistryClient
            from confluent_kafka.schema_registry.error import SchemaRegistryError
    except ImportError as error:
        raise SchemaError(
            f"a schema registry needs one more package: pip install 'penstock[registry]' ({error})"
        ) from error
    try:
        return SchemaRegistryClient(settings), SchemaRegistryError
    except Exception as error:  # the client checks its settings with errors of many types
        raise SchemaError(f"the schema registry {url or '(no url)'} cannot be used: {error}") from error


def _without_password(url: str) -> str:
    """Return the address as it may stand in a log."""
    return ",".join(
        one if "@" not in one else f"{urlsplit(one).scheme}://{one.rpartition('@')[2]}" for one in url.split(",")
    )
