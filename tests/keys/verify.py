"""Verifies tokens with PyJWT, from a key set: prints the name in each, or that it is refused."""

import sys

import jwt

url, *tokens = sys.argv[1:]
keys = jwt.PyJWKClient(url)
for token in tokens:
    try:
        key = keys.get_signing_key_from_jwt(token)
        claims = jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm_name],
            audience="portcullis",
            issuer="http://localhost:8080",
            options={"require": ["exp", "iat", "nbf", "sub", "jti"]},
        )
        print(claims["username"])
    except jwt.PyJWTError:
        print("refused")
