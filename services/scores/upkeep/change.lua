-- What the scripts that change a board begin with.
--
-- KEYS  see boards/keys.py
-- ARGV  begin with how far the clock is ahead of Redis' (ms), and the channel and the name under
--       which the change is published

local board, members, meta, ready, scores, cache = unpack(KEYS)

local function bump()
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
  local version = math.max((redis.call('HGET', meta, 'version') or 0) + 1, now)
  redis.call('HSET', meta, 'version', string.format('%.0f', version))
  return string.format('%.0f', now)
end

local function publish()
  redis.call('DEL', cache)
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end

-- Removes an entry, and its score from those of a dense board where it was the last one.
local function remove(entry)
  local score = redis.call('ZSCORE', board, entry)
  redis.call('ZREM', board, entry)
  if score and redis.call('ZCOUNT', board, score, score) == 0 then
    redis.call('ZREMRANGEBYSCORE', scores, score, score)
  end
end
