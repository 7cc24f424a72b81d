"""The names of the Redis streams between units; each entry's field `batch` is of events.proto."""

AWARDS = "{events}:awards"  # ScoreEvents, by scores
SANCTIONS = "{fraud}:sanctions"  # SanctionEvents, by fraud
