-- Removes entries that no player of the board is known to have.
--
-- ARGV  (after change.lua's) the entries (place among equals and player, 24 bytes each)

for i = 4, #ARGV do
  remove(ARGV[i])
end
redis.call('HSET', meta, 'at', bump())
publish()
