"""gRPC between units: `server.py` serves, `client.py` calls, `tls.py` has the certificates."""
