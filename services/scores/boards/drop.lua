-- Takes entries from one board and period that nobody there is known to have.
--
-- KEYS  see keyspace.py
-- ARGV  what the clock is ahead of Redis' (ms), where to tell that the board changed and by which
--       name, the entries (place among equals and player, 24 bytes each)

local board, members, meta, ready, scores, cache = unpack(KEYS)
for i = 4, #ARGV do
  local score = redis.call('ZSCORE', board, ARGV[i])
  if score then
    redis.call('ZREM', board, ARGV[i])
    if redis.call('ZCOUNT', board, score, score) == 0 then
      redis.call('ZREMRANGEBYSCORE', scores, score, score)
    end
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local version = math.max((redis.call('HGET', meta, 'version') or 0) + 1, now)
redis.call('HSET', meta, 'version', string.format('%.0f', version), 'at', string.format('%.0f', now))
redis.call('DEL', cache)
redis.call('PUBLISH', ARGV[2], ARGV[3])
