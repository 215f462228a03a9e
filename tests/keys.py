"""Keys for tests: an entry of `keys:` for a name and its scopes, and the header that shows the key.

Rule: the secret of each is made of its name, so that no test has to carry one around.
"""

from hashlib import sha256

EVERY_SCOPE = ("inference", "read", "admin")


def secret(name: str) -> str:
    return f"sk-the-secret-of-{name}"


def entry(name: str, *scopes: str) -> dict[str, object]:
    digest = sha256(secret(name).encode()).hexdigest()
    return {"name": name, "sha256": digest, "scopes": list(scopes)}


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret(name)}"}
