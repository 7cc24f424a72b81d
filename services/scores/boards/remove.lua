-- Takes players from one board and period, and all that is known of them.
--
-- KEYS  see keyspace.py
-- ARGV  what the clock is ahead of Redis' (ms), where to tell that the board changed and by which
--       name, the players (16 bytes each)

local board, members, meta, ready, scores, cache = unpack(KEYS)
for i = 4, #ARGV do
  local kept = redis.call('HGET', members, ARGV[i])
  if kept and #kept > 8 then
    local member = string.sub(kept, 9, 16) .. ARGV[i]
    local score = redis.call('ZSCORE', board, member)
    redis.call('ZREM', board, member)
    if score and redis.call('ZCOUNT', board, score, score) == 0 then
      redis.call('ZREMRANGEBYSCORE', scores, score, score)
    end
  end
  redis.call('HDEL', members, ARGV[i])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local version = math.max((redis.call('HGET', meta, 'version') or 0) + 1, now)
redis.call('HSET', meta, 'version', string.format('%.0f', version), 'at', string.format('%.0f', now))
redis.call('DEL', cache)
redis.call('PUBLISH', ARGV[2], ARGV[3])
