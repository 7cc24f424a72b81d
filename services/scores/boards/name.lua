-- Keeps the names of players, where they are newer.
--
-- KEYS  the names (hash)
-- ARGV  the channel on which a change of names is published, then for each player: id (16 bytes), the name's version (8,
--       big-endian) and the name

-- Not compared as text: that follows the locale of the server.
local function number(bytes)
  local high, low = struct.unpack('>I4I4', bytes)
  return high * 2 ^ 32 + low
end

local changed = false
for i = 2, #ARGV, 2 do
  local kept = redis.call('HGET', KEYS[1], ARGV[i])
  if not kept or number(kept) < number(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    changed = changed or kept
  end
end
if changed then
  redis.call('PUBLISH', ARGV[1], '')
end
