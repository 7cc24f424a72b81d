-- The heartbeat of one gateway process among all of them.
--
-- KEYS[1]  the heartbeats: a sorted set, member the process's id, score its last one, ms
-- ARGV[1]  what the callers' clock is ahead of ours, ms
-- ARGV[2]  the process's id
-- ARGV[3]  after how long without one a process counts no more, ms; 0: this one leaves
-- Returns how many processes count, this one among them unless it leaves.

if ARGV[3] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[2])
  return redis.call('ZCARD', KEYS[1])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
redis.call('ZADD', KEYS[1], now, ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return redis.call('ZCARD', KEYS[1])
