-- Takes items out of the journal.
--
-- KEYS  the journal (stream), what it holds (hash)
-- ARGV  for each item: its entry's id, its action's id

for i = 1, #ARGV, 2 do
  redis.call('XDEL', KEYS[1], ARGV[i])
  redis.call('HDEL', KEYS[2], ARGV[i + 1])
end
return #ARGV / 2
