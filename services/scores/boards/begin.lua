-- Begins to build one board and period anew: it is not complete until finish.lua says so.
--
-- KEYS  see keyspace.py
-- ARGV  what the clock is ahead of Redis' (ms), when the keys expire (Unix ms; 0: never), `wipe` to
--       begin with an empty board, where to tell that the board changed and by which name, the
--       token of this building

local board, members, meta, ready, scores, cache = unpack(KEYS)
redis.call('DEL', ready)
if ARGV[3] == 'wipe' then
  -- Freed beside what Redis does next: millions of players take seconds.
  redis.call('UNLINK', board, members, scores)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local version = math.max((redis.call('HGET', meta, 'version') or 0) + 1, now)
redis.call('HSET', meta, 'version', string.format('%.0f', version), 'building', ARGV[6])
if tonumber(ARGV[2]) > 0 then
  redis.call('PEXPIREAT', meta, ARGV[2])
end
redis.call('DEL', cache)
redis.call('PUBLISH', ARGV[4], ARGV[5])
