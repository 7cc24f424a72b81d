"""The live channel: one WebSocket per watcher, frames passed on as realtime made them.

Read `handler.py` (handshake, count, shutdown), `session.py` (the protocol of one socket) and
`frames.py` (its frames), then `hub.py` and `channels.py` (the stream to realtime and its fan-out),
`outlet.py` (the write side) and `limits.py`.
"""
