-- The first entries of one board and period.
--
-- ARGV  (after order.lua's) how many, how long the answer is kept (ms; 0: it is read from the sorted
--       set, and not kept), a version that the board has at least
-- Returns version, time of the last change (Unix ms; 0: there was none), players, the first entry's
-- position and rank as doubles, then the entries.

if not complete() then
  return false
end
local keep_ms = tonumber(ARGV[4])
-- One about to vanish is made again: processes that cache it for a second drop it by this key.
if keep_ms > 0 and redis.call('PTTL', cache) > 1500 then
  return redis.call('GET', cache)
end
if version() < tonumber(ARGV[5]) then
  redis.call('HSET', meta, 'version', ARGV[5])
end
local at = tonumber(redis.call('HGET', meta, 'at') or 0)
local answer = numbers(version(), at, total(), 0, 1) .. entries(range(0, ARGV[3] - 1))
if keep_ms > 0 then
  redis.call('SET', cache, answer, 'PX', keep_ms)
end
return answer
