"""Stands in for a store that speaks S3 and for a hub of models, both in one server of this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.server import Server, Visit, serving

_SHA = "5" * 40


def _answer(visit: Visit) -> None:
    path, query = urlsplit(visit.path).path, parse_qs(urlsplit(visit.path).query)
    body = visit.rfile.read(int(visit.headers.get("Content-Length", 0)))
    if path.startswith("/api/"):
        _hub(visit, unquote(path.removeprefix("/api/")), body)
    elif "list-type" in query:
        _listing(visit, path.strip("/"), query.get("prefix", [""])[0])
    elif path.startswith("/bucket/denied"):
        visit.head(403, Content_Length=0)
    elif path in visit.server.files:
        _part(visit, visit.server.files[path])
    else:
        visit.head(404, Content_Length=0)


def _part(visit: Visit, content: bytes) -> None:
    common = {"ETag": '"1"', "Last_Modified": "Sun, 01 Nov 2026 00:00:00 GMT", "Accept_Ranges": "bytes"}
    if "Range" not in visit.headers:
        visit.head(200, Content_Length=len(content), **common)
        visit.send(content)
        return
    first, stop = visit.asked_range(len(content))
    said = f"bytes {first}-{stop - 1}/{len(content)}"
    visit.head(206, Content_Range=said, Content_Length=stop - first, **common)
    visit.send(content[first:stop])


def _listing(visit: Visit, bucket: str, prefix: str) -> None:
    """Answer as ListObjectsV2 does, with the delimiter that s3fs asks for."""
    keys = {
        path.removeprefix(f"/{bucket}/"): data
        for path, data in visit.server.files.items()
        if path.startswith(f"/{bucket}/")
    }
    if not keys:
        problem = b"<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"
        visit.head(404, Content_Type="application/xml", Content_Length=len(problem))
        visit.send(problem)
        return
    inside = {key: data for key, data in keys.items() if key.startswith(prefix)}
    folders = {prefix + key[len(prefix) :].partition("/")[0] + "/" for key in inside if "/" in key[len(prefix) :]}
    entries = [
        f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>1</ETag>"
        "<LastModified>2026-11-01T00:00:00.000Z</LastModified></Contents>"
        for key, data in inside.items()
        if "/" not in key[len(prefix) :]
    ]
    entries += [f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in sorted(folders)]
    count = f"<KeyCount>{len(entries)}</KeyCount><IsTruncated>false</IsTruncated>"
    said = f"<ListBucketResult><Name>{bucket}</Name>{count}{''.join(entries)}</ListBucketResult>".encode()
    visit.head(200, Content_Type="application/xml", Content_Length=len(said))
    visit.send(said)


def _hub(visit: Visit, path: str, body: bytes) -> None:
    """Answer what HfFileSystem asks about a model: its revision, what is in a folder, and what single paths are."""
    kind, _, rest = path.partition("/")
    owner, name, *asked = [*rest.split("/"), ""]
    home = f"/{owner}/{name}/resolve/main/"
    held = {key.removeprefix(home): data for key, data in visit.server.files.items() if key.startswith(home)}
    if kind != "models" or not held:
        visit.head(401, X_Error_Code="RepoNotFound", X_Error_Message="Invalid username or password.", Content_Length=0)
        return
    match asked:
        case ["paths-info", *_]:
            found: object = [_entry(each, held) for each in parse_qs(body.decode())["paths"] if each in held]
        case ["tree", _, *folder]:
            prefix = "".join(f"{part}/" for part in folder if part)
            found = [_entry(each, held) for each in held if each.startswith(prefix)]
        case _:
            found = {"_id": _SHA, "id": f"{owner}/{name}", "sha": _SHA, "private": False}
    said = json.dumps(found).encode()
    visit.head(200, Content_Type="application/json", Content_Length=len(said))
    visit.send(said)


def _entry(path: str, held: dict[str, bytes]) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(held[path]), "oid": _SHA}


@contextmanager
def stores(files: dict[str, bytes]) -> Iterator[Server]:
    """Serve files: by ``/BUCKET/KEY`` those of a bucket, by ``/ORG/REPO/resolve/main/PATH`` those of a model."""
    with serving(files, _answer) as server:
        yield server
