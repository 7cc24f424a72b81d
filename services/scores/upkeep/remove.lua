-- Removes players: their entries and their rows in `members`.
--
-- ARGV  (after change.lua's) the players (16 bytes each)

for i = 4, #ARGV do
  local kept = redis.call('HGET', members, ARGV[i])
  if kept and #kept > 8 then
    remove(string.sub(kept, 9, 16) .. ARGV[i])
  end
  redis.call('HDEL', members, ARGV[i])
end
redis.call('HSET', meta, 'at', bump())
publish()
