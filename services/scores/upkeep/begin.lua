-- Begins to rebuild a board: it is not complete until finish.lua marks it.
--
-- ARGV  (after change.lua's) when the keys expire (Unix ms; 0: never), `wipe` to begin with an empty
--       board, the token of this rebuild

redis.call('DEL', ready)
if ARGV[5] == 'wipe' then
  -- Freed beside what Redis does next: millions of players take seconds.
  redis.call('UNLINK', board, members, scores)
end
bump()
redis.call('HSET', meta, 'building', ARGV[6])
if tonumber(ARGV[4]) > 0 then
  redis.call('PEXPIREAT', meta, ARGV[4])
end
publish()
