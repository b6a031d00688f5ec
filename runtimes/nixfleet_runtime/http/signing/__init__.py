"""HTTP message signatures (RFC 9421): signing and verifying requests, key ids, nonces, refusals."""
