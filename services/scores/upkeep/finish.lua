-- Marks a board as complete, if it is still the rebuild that `token` began.
--
-- ARGV  (after change.lua's) when the keys expire (Unix ms; 0: never), the token
-- Returns whether it is.

if redis.call('HGET', meta, 'building') ~= ARGV[5] then
  return 0
end
bump() -- newer than what was read from Postgres in between
redis.call('HDEL', meta, 'building')
redis.call('SET', ready, '1')
if tonumber(ARGV[4]) > 0 then
  redis.call('PEXPIREAT', ready, ARGV[4])
end
return 1
