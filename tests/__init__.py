"""What crosses units: boundaries, contracts, journeys, faults, security, the page."""
