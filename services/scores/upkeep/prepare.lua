-- One board and period is complete, because no one can be on it before it begins.
--
-- KEYS  see boards/keys.py
-- ARGV  what the clock is ahead of Redis' (ms), when the keys expire (Unix ms; 0: never), when the
--       period begins (Unix ms)
-- Returns whether it is complete.

local ready = KEYS[4]
local time = redis.call('TIME')
if time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1] < tonumber(ARGV[3]) then
  redis.call('SET', ready, '1')
  if tonumber(ARGV[2]) > 0 then
    redis.call('PEXPIREAT', ready, ARGV[2])
  end
end
return redis.call('EXISTS', ready)
