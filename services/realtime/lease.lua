-- Takes, renews or (with a time to live of 0) gives back a lease.
-- KEYS: the lease (a hash of holder, fence, until). ARGV: holder, time to live in ms, offset of our clock in ms.
-- Answers the fencing number while the caller holds the lease, else 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]
local holder, fence, till = unpack(redis.call('HMGET', KEYS[1], 'holder', 'fence', 'until'))
if holder ~= ARGV[1] then
  if tonumber(till or '0') > now then
    return 0
  end
  -- Begins at the clock, so that it rises even over a loss of Redis' data.
  fence = math.max(tonumber(fence or '0') + 1, now)
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'fence', string.format('%.0f', fence),
  'until', string.format('%.0f', now + ARGV[2]))
return tonumber(fence)
