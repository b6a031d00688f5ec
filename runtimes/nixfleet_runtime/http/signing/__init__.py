"""HTTP message signatures (RFC 9421): signing requests, reading and checking them, nonces and refusals."""
