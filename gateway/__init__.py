"""The edge: REST, WebSocket and pages, before the services that hold the rules."""
