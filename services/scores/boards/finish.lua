-- One board and period is complete, if it is still the building that `token` began.
--
-- KEYS  see keyspace.py
-- ARGV  what the clock is ahead of Redis' (ms), when the keys expire (Unix ms; 0: never), the token
-- Answers whether it is.

local meta, ready = KEYS[3], KEYS[4]
if redis.call('HGET', meta, 'building') ~= ARGV[3] then
  return 0
end
-- Newer than what was read from Postgres in between.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local version = math.max((redis.call('HGET', meta, 'version') or 0) + 1, now)
redis.call('HSET', meta, 'version', string.format('%.0f', version))
redis.call('HDEL', meta, 'building')
redis.call('SET', ready, '1')
if tonumber(ARGV[2]) > 0 then
  redis.call('PEXPIREAT', ready, ARGV[2])
end
return 1
