-- Keeps the names of players.
--
-- KEYS  the names (hash)
-- ARGV  `replace`: also where there is another, where to tell that a name changed, then for each
--       player: id (16 bytes), name

local changed = false
for i = 3, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  elseif ARGV[1] == 'replace' and known ~= ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    changed = true
  end
end
if changed then
  redis.call('PUBLISH', ARGV[2], '')
end
